// A file that the server sends, piece by piece.
#pragma once
#include "server/cli/commands.hpp"

namespace cli {

/// Writes it to `path`, for its owner alone: whole, or not at all. Says what became of it; returns the exit status.
int receive(const options& o, const std::string& socket_file, const char* what, grpc::ClientReader<pb::data_part>& from, const std::string& path);

} // namespace cli
