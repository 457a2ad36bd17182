// A thread for rounds of work where there is none that waits for something else besides.
#pragma once
#include "cluster/transport.hpp"
#include <memory>

namespace cluster {

/// `name`: what `top -H` calls it.
[[nodiscard]] std::unique_ptr<wire::worker> make_worker(std::string name);

} // namespace cluster
