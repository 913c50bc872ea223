#!/bin/sh
# Makes the certificates of the tests, valid for a hundred years. Run it in this folder; the results are kept beside it.
set -e
days=36500
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ca NAME SUBJECT
ca() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj "$2" \
    -keyout "$work/$1.key" -out "$1.pem"
}

# leaf NAME CA SUBJECT ALTERNATIVE_NAMES
leaf() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$1.key" -out "$work/$1.csr"
  printf 'subjectAltName=%s\n' "$4" >"$work/$1.ext"
  openssl x509 -req -in "$work/$1.csr" -CA "$2.pem" -CAkey "$work/$2.key" -CAcreateserial -CAserial "$work/$2.srl" \
    -days $days -extfile "$work/$1.ext" -out "$1.pem"
}

ca ca "/O=Example/CN=Example CA"
ca other-ca "/O=Other/CN=Other CA"
leaf server ca "/CN=localhost" "DNS:localhost,IP:127.0.0.1"
leaf server-new ca "/CN=localhost new" "DNS:localhost,IP:127.0.0.1"
leaf two ca "/CN=two" "DNS:two.example,DNS:*.two.example"
leaf client ca "/C=DE/O=Example, Inc/CN=device-7" "DNS:device-7.example,URI:urn:device:7"
leaf revoked ca "/CN=revoked" "DNS:revoked.example"
leaf stranger other-ca "/CN=stranger" "DNS:stranger.example"

# A list of revoked certificates, with the one above on it.
cat >"$work/crl.cnf" <<END
[ca]
default_ca=own
[own]
database=$work/index.txt
crlnumber=$work/crlnumber
default_md=sha256
default_crl_days=$days
END
: >"$work/index.txt"
echo 01 >"$work/crlnumber"
openssl ca -config "$work/crl.cnf" -cert ca.pem -keyfile "$work/ca.key" -revoke revoked.pem
openssl ca -config "$work/crl.cnf" -cert ca.pem -keyfile "$work/ca.key" -gencrl -out crl.pem
