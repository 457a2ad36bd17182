// What a completion queue of gRPC's has as a tag.
#pragma once

namespace cluster::rpc {

/// Something that gRPC does meanwhile; its address is the tag.
class operation {
public:
  /// Once for each time it was begun, on the thread of the queue. False: it failed, as all later ones of this call will.
  virtual void done(bool ok) = 0;

protected:
  ~operation() = default;
};

/// An operation of a call that is told by one of its functions.
template <class Call>
class operation_of final : public operation {
public:
  operation_of(Call& c, void (Call::*what)(bool ok)) : call_(c), what_(what) {}
  void done(bool ok) override { (call_.*what_)(ok); }

private:
  Call& call_;
  void (Call::*const what_)(bool);
};

} // namespace cluster::rpc
