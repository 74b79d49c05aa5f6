# Where what operators bring along is made: packages of every kind, archives, programs. BASE is the common part.
ARG BASE
FROM ${BASE}
COPY apt /etc/apt/
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends makeself rpm \
 && rm -rf /var/lib/apt/lists /var/cache/apt/* /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99*
COPY . /usr/local/lib/lab/
RUN bash /usr/local/lib/lab/os/assemble && rm /etc/ld.so.preload
