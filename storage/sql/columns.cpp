// Records by protobuf's reflection, along the paths that the declarations name.
#include "storage/sql/columns.hpp"
#include "storage/sql/text.hpp"
#include "storage/sql/wire.hpp"
#include <algorithm>
#include <google/protobuf/message.h>
#include <limits>

namespace storage::sql {

namespace pb = google::protobuf;

namespace {
constexpr const char* of_others = "other_rows";
constexpr auto most_number = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

std::string as_name(std::string_view path) {
  std::string out{path};
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
}

/// Nothing: a column cannot hold it.
cell get(const pb::Message& m, const pb::FieldDescriptor& f) {
  auto& r = *m.GetReflection();
  if (f.is_repeated()) {
    std::vector<std::string> all;
    for (int i = 0; i < r.FieldSize(m, &f); ++i) {
      all.push_back(r.GetRepeatedString(m, &f, i));
      if (!is_storable(all.back()))
        return std::nullopt;
    }
    return wire::text_list(all);
  }
  switch (f.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_STRING: return r.GetString(m, &f);
    case pb::FieldDescriptor::CPPTYPE_UINT32: return wire::number(r.GetUInt32(m, &f));
    case pb::FieldDescriptor::CPPTYPE_UINT64: return wire::number(static_cast<std::int64_t>(r.GetUInt64(m, &f)));
    case pb::FieldDescriptor::CPPTYPE_INT64: return wire::time(r.GetInt64(m, &f));
    case pb::FieldDescriptor::CPPTYPE_BOOL: return wire::flag(r.GetBool(m, &f));
    default: return std::nullopt;
  }
}

bool set(pb::Message& m, const pb::FieldDescriptor& f, const cell& c) {
  auto& r = *m.GetReflection();
  if (f.is_repeated()) {
    auto all = wire::read_text_list(c);
    if (all)
      for (auto& s : *all)
        r.AddString(&m, &f, s);
    return all.has_value();
  }
  if (!c)
    return false;
  switch (f.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_STRING: r.SetString(&m, &f, *c); return true;
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      r.SetBool(&m, &f, *c != wire::flag(false));
      return c->size() == 1;
    case pb::FieldDescriptor::CPPTYPE_INT64:
      if (auto v = wire::read_time(c))
        return r.SetInt64(&m, &f, *v), true;
      return false;
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      if (auto v = wire::read_number(c))
        return r.SetUInt64(&m, &f, static_cast<std::uint64_t>(*v)), true;
      return false;
    case pb::FieldDescriptor::CPPTYPE_UINT32:
      if (auto v = wire::read_number(c); v && *v >= 0 && *v <= std::numeric_limits<std::uint32_t>::max())
        return r.SetUInt32(&m, &f, static_cast<std::uint32_t>(*v)), true;
      return false;
    default: return false;
  }
}
} // namespace

sql_table::sql_table() : name_(of_others), key_{{"key", column_type::bytes}}, value_{{"value", column_type::bytes}} {}

sql_table::sql_table(const table& t) : declaration_(&t), name_(t.name) {
  for (auto& c : t.key)
    key_.push_back({as_name(c.name), c.type});
  if (key_.empty())
    key_.push_back({"one_row", column_type::boolean});
  if (t.record.empty())
    return;
  record_ = pb::DescriptorPool::generated_pool()->FindMessageTypeByName("covey.storage." + std::string{t.record});
  assert(record_);
  for (auto& c : t.value) {
    path p;
    auto* d = record_;
    for (auto rest = c.name; !rest.empty();) {
      auto dot = std::min(rest.find('.'), rest.size());
      p.push_back(d->FindFieldByName(std::string{rest.substr(0, dot)}));
      assert(p.back());
      d = p.back()->message_type();
      rest.remove_prefix(std::min(dot + 1, rest.size()));
    }
    value_.push_back({as_name(c.name), c.type, p.size() > 1});
    paths_.push_back(std::move(p));
  }
}

std::optional<std::vector<std::string>> sql_table::key_cells(std::string_view key) const {
  std::vector<std::string> out;
  if (!declaration_) {
    out.emplace_back(key);
    return out;
  }
  key_reader k{*declaration_, key};
  for (auto& c : declaration_->key)
    switch (c.type) {
      case column_type::text: {
        auto v = k.text();
        if (!v || !is_storable(*v))
          return std::nullopt;
        out.push_back(std::move(*v));
        break;
      }
      case column_type::u64: {
        auto v = k.number();
        if (!v || *v > most_number)
          return std::nullopt;
        out.push_back(wire::number(static_cast<std::int64_t>(*v)));
        break;
      }
      default: {
        auto v = k.id();
        if (!v)
          return std::nullopt;
        auto& id = out.emplace_back();
        base::put_be64(id, v->a);
        base::put_be64(id, v->b);
      }
    }
  if (!k.is_at_end())
    return std::nullopt;
  if (is_one_row())
    out.push_back(wire::flag(true));
  return out;
}

std::optional<std::vector<cell>> sql_table::value_cells(const std::string& record) const {
  std::vector<cell> out;
  if (!declaration_) {
    out.emplace_back(record);
    return out;
  }
  if (!record_)
    return record.empty() ? std::optional{out} : std::nullopt;
  std::unique_ptr<pb::Message> m{pb::MessageFactory::generated_factory()->GetPrototype(record_)->New()};
  if (!m->ParseFromString(record))
    return std::nullopt;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const pb::Message* at = m.get();
    for (auto f = paths_[i].begin(); at && f + 1 != paths_[i].end(); ++f)
      at = at->GetReflection()->HasField(*at, *f) ? &at->GetReflection()->GetMessage(*at, *f) : nullptr;
    if (!at) {
      out.emplace_back();
      continue;
    }
    auto c = get(*at, *paths_[i].back());
    bool is_text = value_[i].type == column_type::text || value_[i].type == column_type::xml;
    if (!c || (is_text && !is_storable(*c)))
      return std::nullopt;
    out.push_back(std::move(c));
  }
  return out;
}

base::result<std::string, errc> sql_table::key_of(std::span<const cell> cells) const {
  for (std::size_t i = 0; i < key_.size(); ++i)
    if (!cells[i])
      return base::fail(errc::corrupt);
  if (!declaration_)
    return *cells[0];
  key_builder k{*declaration_};
  for (std::size_t i = 0; i < declaration_->key.size(); ++i) {
    auto& c = *cells[i];
    switch (declaration_->key[i].type) {
      case column_type::text: k.text(c); break;
      case column_type::u64: k.number(base::get_be64(c)); break;
      default: k.id({base::get_be64(c), base::get_be64(std::string_view{c}.substr(std::min<std::size_t>(8, c.size())))});
    }
  }
  return k.take();
}

base::result<std::string, errc> sql_table::record_of(std::span<const cell> cells) const {
  if (!declaration_)
    return cells[0] ? base::result<std::string, errc>{*cells[0]} : base::fail(errc::corrupt);
  if (!record_)
    return std::string{};
  std::unique_ptr<pb::Message> m{pb::MessageFactory::generated_factory()->GetPrototype(record_)->New()};
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (!cells[i] && value_[i].is_optional)
      continue;
    auto* at = m.get();
    for (auto f = paths_[i].begin(); f + 1 != paths_[i].end(); ++f)
      at = at->GetReflection()->MutableMessage(at, *f);
    if (!set(*at, *paths_[i].back(), cells[i]))
      return base::fail(errc::corrupt);
  }
  return m->SerializeAsString();
}

sql_tables::sql_tables(std::span<const table* const> declared) {
  for (auto* t : declared) {
    declared_.push_back(std::make_unique<sql_table>(*t));
    by_id_[static_cast<unsigned char>(t->id)] = declared_.back().get();
  }
  auto id = [](const std::unique_ptr<sql_table>& t) { return static_cast<unsigned char>(t->declaration()->id); };
  std::sort(declared_.begin(), declared_.end(), [&](auto& a, auto& b) { return id(a) < id(b); });
}

const char* type_name(column_type t) {
  switch (t) {
    case column_type::text:
    case column_type::xml: return "text";
    case column_type::bytes: return "bytea";
    case column_type::u32:
    case column_type::u64: return "bigint";
    case column_type::u128: return "uuid";
    case column_type::boolean: return "boolean";
    case column_type::time_us: return "timestamp with time zone";
    case column_type::text_list: return "text[]";
  }
  return "";
}

const char* default_of(column_type t) {
  switch (t) {
    case column_type::text:
    case column_type::xml:
    case column_type::bytes: return "''";
    case column_type::u32:
    case column_type::u64: return "0";
    case column_type::u128: return "'00000000-0000-0000-0000-000000000000'";
    case column_type::boolean: return "false";
    case column_type::time_us: return "'1970-01-01 00:00:00+00'";
    case column_type::text_list: return "'{}'";
  }
  return "";
}

std::string quoted(std::string_view name) { return '"' + std::string{name} + '"'; }

} // namespace storage::sql
