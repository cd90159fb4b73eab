# Stand-ins for the official images that the project builds on and uses, from Debian's packages, for machines that reach
# Debian and no registry of images. `debian` is what debootstrap made.

FROM debian AS python
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io python3 python3-pip \
    && python3 -m pip install --quiet --break-system-packages --root-user-action=ignore --ignore-installed pip \
    && apt-get purge -y -qq --auto-remove python3-pip \
    && rm -rf /usr/lib/python3*/EXTERNALLY-MANAGED /var/lib/apt/lists/* /var/cache/apt/*.bin /root/.cache \
    && ln -s /usr/bin/python3 /usr/local/bin/python3 \
    && ln -s /usr/bin/python3 /usr/local/bin/python
CMD ["python3"]

# The checkout's own Node.js and npm.
FROM debian AS node
COPY node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
CMD ["node"]

FROM debian AS nginx
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io nginx-light gettext-base curl \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
CMD ["nginx", "-g", "daemon off;"]

# The program alone: the package asks for much that only its pages need.
FROM debian AS prometheus
WORKDIR /prometheus
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io wget \
    && cd /tmp && apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb unpacked \
    && install unpacked/usr/bin/prometheus /bin/ \
    && rm -rf /tmp/* /var/lib/apt/lists/* /var/cache/apt/*.bin \
    && mkdir -p /etc/prometheus && chown 65534:65534 /prometheus /etc/prometheus
USER 65534:65534
EXPOSE 9090
VOLUME ["/prometheus"]
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]

# The checkout's own server, with Debian's client. The image's entry point adds the server's name to options alone.
FROM debian AS valkey
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io valkey-tools \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
    && (id valkey >/dev/null 2>&1 || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin valkey) \
    && mkdir /data && chown valkey:valkey /data
COPY valkey-server /usr/local/bin/valkey-server
WORKDIR /data
VOLUME ["/data"]
EXPOSE 6379
ENTRYPOINT ["valkey-server"]
