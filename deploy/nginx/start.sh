#!/bin/sh
# Start nginx in a container with nginx.conf filled in from the environment. All files are written under
# FOLYAM_NGINX_DIR.
set -eu

# Set a variable to its default, unless the environment has more than blanks for it.
fill() {
    value=$(printenv "$1" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
    export "$1=${value:-$2}"
}

fill FOLYAM_LISTEN 8080
fill FOLYAM_SERVICE service:8000
# Docker's name server. Other platforms have another address.
fill FOLYAM_RESOLVER 127.0.0.11
fill FOLYAM_WEB_ROOT /usr/share/folyam
fill FOLYAM_NGINX_DIR /tmp/nginx
fill FOLYAM_NGINX_USER nobody
fill FOLYAM_ACCESS_LOG /dev/stdout
fill FOLYAM_CLIENT_CONNECTIONS 1000
fill FOLYAM_CLIENT_REQUESTS 100
fill FOLYAM_MAX_BODY_BYTES 1048576
fill FOLYAM_MAX_API_BODY_BYTES 33554432

mkdir -p "$FOLYAM_NGINX_DIR"
# The mount point of files for `include server.d/*.conf`.
ln -sfn /etc/folyam/server.d "$FOLYAM_NGINX_DIR/server.d"
# Only these variables: nginx's own have the same form.
# shellcheck disable=SC2016
envsubst '${FOLYAM_LISTEN} ${FOLYAM_SERVICE} ${FOLYAM_RESOLVER} ${FOLYAM_WEB_ROOT} ${FOLYAM_NGINX_DIR}
    ${FOLYAM_NGINX_USER} ${FOLYAM_ACCESS_LOG} ${FOLYAM_CLIENT_CONNECTIONS} ${FOLYAM_CLIENT_REQUESTS}
    ${FOLYAM_MAX_BODY_BYTES} ${FOLYAM_MAX_API_BODY_BYTES}' \
    </etc/folyam/nginx.conf >"$FOLYAM_NGINX_DIR/nginx.conf"
exec nginx -c "$FOLYAM_NGINX_DIR/nginx.conf" -e stderr
