// What gRPC needs once per process.
#pragma once

namespace cluster::rpc {

/// Before the first stream. gRPC's own complaints go to our log (`cluster.grpc`, debug). Any thread, as often as one likes.
void prepare_grpc();

} // namespace cluster::rpc
