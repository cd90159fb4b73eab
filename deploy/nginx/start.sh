#!/bin/sh
# Start nginx in a container with nginx.conf filled in from the environment. All files are written under
# FOLYAM_NGINX_DIR.
set -eu
mkdir -p "$FOLYAM_NGINX_DIR"
# The mount point of files for `include server.d/*.conf`.
ln -sfn /etc/folyam/server.d "$FOLYAM_NGINX_DIR/server.d"
# Only these variables: nginx's own have the same form.
# shellcheck disable=SC2016
envsubst '${FOLYAM_LISTEN} ${FOLYAM_SERVICE} ${FOLYAM_RESOLVER} ${FOLYAM_WEB_ROOT} ${FOLYAM_NGINX_DIR}
    ${FOLYAM_NGINX_USER} ${FOLYAM_ACCESS_LOG} ${FOLYAM_CLIENT_CONNECTIONS} ${FOLYAM_CLIENT_REQUESTS}
    ${FOLYAM_MAX_BODY_BYTES}' \
    </etc/folyam/nginx.conf >"$FOLYAM_NGINX_DIR/nginx.conf"
exec nginx -c "$FOLYAM_NGINX_DIR/nginx.conf" -e stderr
