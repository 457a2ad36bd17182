// What gRPC needs once per process.
#pragma once

namespace cluster::rpc {

/// Before the first stream. Its threads for callbacks then stay until the process ends, and its own complaints go to our
/// log (`cluster.grpc`, debug). Any thread, as often as one likes.
void prepare_grpc();

} // namespace cluster::rpc
