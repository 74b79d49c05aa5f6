# A lab host that looks like openEuler 22.03: dnf with RPMs, the same Python (3.9), and no apt. BASE is the common part.
ARG BASE
FROM ${BASE}
ARG KERNEL
COPY apt /etc/apt/
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends dnf python3-dnf rpm createrepo-c \
 && rm -rf /var/lib/apt/lists /var/cache/apt/* /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99*
# Debian's rpm has a database for each account; openEuler's has one for all.
RUN mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros
COPY os /usr/local/lib/lab/os/
RUN mkdir -p /etc/lab/faults && echo "${KERNEL}" > /etc/lab/kernel && touch /etc/lab/openeuler \
 && bash /usr/local/lib/lab/os/make-repository openeuler "${KERNEL}" && rm -rf /usr/local/lib/lab/debs \
 && cp /usr/local/lib/lab/os/openeuler-release /usr/lib/os-release \
 && ln -sf ../usr/lib/os-release /etc/os-release && rm -f /etc/debian_version \
 && echo 'openEuler release 22.03 (LTS-SP4)' > /etc/openEuler-release \
 && groupadd -f wheel && install -m 440 /usr/local/lib/lab/os/openeuler-sudoers /etc/sudoers \
 && bash /usr/local/lib/lab/os/repository local \
 && mkdir -p /usr/local/lib/lab/debian && mv /usr/bin/apt-get /usr/bin/apt /usr/bin/apt-cache /usr/local/lib/lab/debian/ \
 && ln -sf dnf /usr/bin/yum
COPY . /usr/local/lib/lab/
RUN bash /usr/local/lib/lab/os/assemble
