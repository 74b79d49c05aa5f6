# A lab host with a real Debian: its own packages, its own apt, from a repository on the host. BASE is the common part.
ARG BASE
FROM ${BASE}
ARG KERNEL
COPY os /usr/local/lib/lab/os/
RUN mkdir -p /etc/lab/faults && echo "${KERNEL}" > /etc/lab/kernel \
 && bash /usr/local/lib/lab/os/make-repository debian "${KERNEL}" && rm -rf /usr/local/lib/lab/debs \
 && bash /usr/local/lib/lab/os/repository local
COPY . /usr/local/lib/lab/
RUN bash /usr/local/lib/lab/os/assemble
