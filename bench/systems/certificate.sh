#!/bin/sh
# Makes what TLS on loopback needs, for a day: DIRECTORY/ca.pem, cert.pem and key.pem, and both in server.pem. ECDSA on
# P-256, as Campanile's own certificates. Usage: certificate.sh DIRECTORY
set -eu
cd "$1"
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $key -keyout ca-key.pem -out ca.pem -days 1 -subj "/CN=bench CA"
# shellcheck disable=SC2086
openssl req $key -keyout key.pem -out request.pem -subj "/CN=localhost"
printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n' >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 1 -extfile extensions -out cert.pem
cat cert.pem key.pem >server.pem
