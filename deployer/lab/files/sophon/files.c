/*
 * What Sophgo's driver shows below /proc and /sys/module, where nothing can be made: it is in /run/lab/emulated. Loaded
 * into every program of a host with emulated cards, by /etc/ld.so.preload.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EMULATED "/run/lab/emulated"

/* The path where an emulated driver's files really are; any other path as it is. */
static const char *lab_path(const char *path, char *room, size_t size)
{
	static const char *const trees[] = {"/proc/bmsophon", "/sys/module/bmsophon"};

	for (size_t i = 0; path && i < sizeof trees / sizeof *trees; i++) {
		size_t length = strlen(trees[i]);

		if (strncmp(path, trees[i], length) == 0 && (path[length] == 0 || path[length] == '/') &&
		    (size_t)snprintf(room, size, EMULATED "%s", path) < size)
			return room;
	}
	return path;
}

#define REAL(name)                                                                                 \
	static __typeof__(&name) real;                                                             \
	if (!real)                                                                                 \
		real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define PLACED char room[4096]; path = lab_path(path, room, sizeof room)

#define OPEN(name)                                                                                 \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		REAL(name);                                       \
		PLACED;                                                                            \
		va_list list;                                                                      \
		va_start(list, flags);                                                             \
		int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;                  \
		va_end(list);                                                                      \
		return real(path, flags, mode);                                                    \
	}
#define OPENAT(name)                                                                               \
	int name(int place, const char *path, int flags, ...)                                      \
	{                                                                                          \
		REAL(name);                                  \
		PLACED;                                                                            \
		va_list list;                                                                      \
		va_start(list, flags);                                                             \
		int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;                  \
		va_end(list);                                                                      \
		return real(place, path, flags, mode);                                             \
	}
#define STAT(name, kind)                                                                           \
	int name(const char *path, struct kind *facts)                                             \
	{                                                                                          \
		REAL(name);                                  \
		PLACED;                                                                            \
		return real(path, facts);                                                          \
	}
#define FSTATAT(name, kind)                                                                        \
	int name(int place, const char *path, struct kind *facts, int flags)                       \
	{                                                                                          \
		REAL(name);                        \
		PLACED;                                                                            \
		return real(place, path, facts, flags);                                            \
	}
#define FOPEN(name)                                                                                \
	FILE *name(const char *path, const char *mode)                                             \
	{                                                                                          \
		REAL(name);                                 \
		PLACED;                                                                            \
		return real(path, mode);                                                           \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)
FOPEN(fopen)
FOPEN(fopen64)

#if !__GLIBC_PREREQ(2, 33)
/* What stat() and its like were until then: functions of their own, with the layout's version. */
#define XSTAT(name, kind)                                                                          \
	int name(int version, const char *path, struct kind *facts)                                \
	{                                                                                          \
		REAL(name);                                  \
		PLACED;                                                                            \
		return real(version, path, facts);                                                 \
	}
#define FXSTATAT(name, kind)                                                                       \
	int name(int version, int place, const char *path, struct kind *facts, int flags)          \
	{                                                                                          \
		REAL(name);                        \
		PLACED;                                                                            \
		return real(version, place, path, facts, flags);                                   \
	}
XSTAT(__xstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat, stat)
XSTAT(__lxstat64, stat64)
FXSTATAT(__fxstatat, stat)
FXSTATAT(__fxstatat64, stat64)
#endif

int chdir(const char *path)
{
	REAL(chdir);
	PLACED;
	return real(path);
}

int statx(int place, const char *restrict path, int flags, unsigned int mask, struct statx *restrict facts)
{
	REAL(statx);
	PLACED;
	return real(place, path, flags, mask, facts);
}

int access(const char *path, int mode)
{
	REAL(access);
	PLACED;
	return real(path, mode);
}

int faccessat(int place, const char *path, int mode, int flags)
{
	REAL(faccessat);
	PLACED;
	return real(place, path, mode, flags);
}

DIR *opendir(const char *path)
{
	REAL(opendir);
	PLACED;
	return real(path);
}
