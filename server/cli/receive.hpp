// A file that the server sends, piece by piece.
#pragma once
#include "server/cli/commands.hpp"
#include <functional>

namespace cli {

/// Asks the server for it.
using sender = std::function<std::unique_ptr<grpc::ClientReader<pb::data_part>>(stub&, grpc::ClientContext&)>;
/// Writes it to `path`, for its owner alone: whole, or not at all; asks first where a file is there. Says what became of
/// it; returns the exit status.
int receive(const options& o, const char* what, const std::string& path, const sender& ask);

} // namespace cli
