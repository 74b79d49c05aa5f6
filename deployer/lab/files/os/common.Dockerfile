# What every lab host of one Debian release has. BASE is that release, from a registry or from debootstrap.
ARG BASE
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
COPY apt /etc/apt/
# From Debian 13 on Docker's client is a package of its own; from then on there is no libncurses5 either.
RUN { [ ! -s /etc/apt/sources.list ] || rm -f /etc/apt/sources.list.d/*; } && apt-get update -qq \
 && there() { for name; do apt-cache show "$name" > /dev/null 2>&1 && echo "$name"; done; true; } \
 && docker="docker.io $(there docker-cli)" \
 && apt-get install -y -qq --no-install-recommends openssh-server sudo python3 python3-apt procps iproute2 kmod bsdextrautils \
      $docker iptables gcc libc6-dev make xz-utils apt-utils tini ca-certificates \
 && mkdir -p /usr/local/lib/lab/debs /var/empty \
 && apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives=/usr/local/lib/lab/debs \
      pciutils net-tools pci.ids lsb-release $(there libncurses5) \
 && apt-get install -y -qq --no-install-recommends --download-only --reinstall \
      -o Dir::Cache::archives=/usr/local/lib/lab/debs $docker \
 && rm -rf /usr/local/lib/lab/debs/partial /usr/local/lib/lab/debs/lock /var/lib/apt/lists /var/cache/apt/* \
      /etc/ssh/ssh_host_* /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99*
ENTRYPOINT ["/sbin/init", "--", "/usr/local/lib/lab/init"]
