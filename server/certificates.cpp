// The local authority, on base/x509: what is there, what is missing, what is not ours.
#include "server/certificates.hpp"
#include "base/x509.hpp"
#include "server/files.hpp"
#include <filesystem>
#include <memory>
#include <unicode/uidna.h>

namespace server {

namespace {
using base::x509::certificate;
using base::x509::key;
using namespace std::chrono_literals;
constexpr auto day = 24h;
constexpr const char* authority_name = "covey local authority";

std::string names_of(const std::string& name) {
  auto names = "DNS:" + name;
  for (auto* component : {"conference", "upload", "pubsub", "proxy", "announce", "xmpp"})
    names += std::string{",DNS:"} + component + '.' + name;
  if (name == "localhost")
    names += ",IP:127.0.0.1,IP:::1";
  return names;
}

/// By the name of whoever signed it: what we did not make is not ours to replace.
bool is_ours(const certificate& x) { return x.issuer_name() == authority_name; }

/// The one that is there, or a new one where there is none, it ends soon, or its key is lost.
base::result<base::x509::authority, std::string> provide_authority(const std::string& file, const std::string& key_file) {
  auto own = certificate::read(file);
  auto its_key = key::read(key_file);
  if (is_there(file) && (!own || !is_ours(*own)))
    return base::fail(file + " is not from covey's own authority: it stays as it is; move it away, or name your certificates with tls.certificate and tls.key");
  if (own && its_key && own->is_of(*its_key) && own->lasts(60 * day))
    return base::x509::authority{*own, *its_key};
  auto made = base::x509::make_authority(authority_name, 3'650 * day);
  if (auto ok = write_whole(key_file, made.key.pem()); !ok)
    return base::fail(ok.error());
  if (auto ok = write_whole(file, made.own.pem(), 0644); !ok)
    return base::fail(ok.error());
  return made;
}
} // namespace

std::string ascii_name(const std::string& domain) {
  UErrorCode ec = U_ZERO_ERROR;
  std::unique_ptr<UIDNA, void (*)(UIDNA*)> idna{uidna_openUTS46(UIDNA_NONTRANSITIONAL_TO_ASCII, &ec), uidna_close};
  UIDNAInfo info = UIDNA_INFO_INITIALIZER;
  std::string out(512, '\0');
  auto size = uidna_nameToASCII_UTF8(idna.get(), domain.data(), static_cast<std::int32_t>(domain.size()), out.data(),
                                     static_cast<std::int32_t>(out.size()), &info, &ec);
  if (U_FAILURE(ec) || info.errors != 0 || size > static_cast<std::int32_t>(out.size()))
    return domain;
  out.resize(static_cast<std::size_t>(size));
  return out;
}

base::result<certificate_files, std::string> local_certificate(const std::string& folder, const std::string& domain) {
  auto name = ascii_name(domain);
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") != name.npos || name.front() == '.')
    return base::fail(domain + " cannot stand in a certificate");
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  if (ec)
    return base::fail(folder + " cannot be made: " + ec.message());
  certificate_files files{folder + "/ca.pem", folder + '/' + name + ".pem", folder + '/' + name + ".key", false};
  auto old = certificate::read(files.chain);
  if (is_there(files.chain) && (!old || !is_ours(*old)))
    return base::fail(files.chain + " is not from covey's own authority: it stays as it is; name it with tls.certificate and tls.key, or move it away");
  auto ca = provide_authority(files.authority, folder + "/ca.key");
  if (!ca)
    return base::fail(ca.error());
  if (auto old_key = key::read(files.key); old && old_key && old->is_of(*old_key) && old->lasts(30 * day) && old->is_signed_by(ca->own) && old->has_host(name))
    return files;
  auto fresh = key::generate();
  auto x = base::x509::issue(*ca, fresh, {name, names_of(name), 397 * day}); // longer lives are refused by some clients
  if (auto ok = write_whole(files.key, fresh.pem()); !ok)
    return base::fail(ok.error());
  if (auto ok = write_whole(files.chain, x.pem() + ca->own.pem(), 0644); !ok)
    return base::fail(ok.error());
  files.is_new = true;
  return files;
}

std::string how_to_trust(const std::string& authority) {
  return "sudo cp " + authority + " /usr/local/share/ca-certificates/covey.crt && sudo update-ca-certificates";
}

} // namespace server
