// The channel.
#include "server/cli/client.hpp"
#include <grpcpp/grpcpp.h>

namespace cli {

client::client(const std::string& socket_file) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = covey::admin::admin::NewStub(grpc::CreateCustomChannel("unix:" + socket_file, grpc::InsecureChannelCredentials(), arguments));
}

} // namespace cli
