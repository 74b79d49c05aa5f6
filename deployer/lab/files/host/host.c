/*
 * What a lab host says of itself. Loaded into every program by /etc/ld.so.preload.
 *
 * It runs the kernel in /etc/lab/kernel; and a limit that the machine below does not let it raise is no error, as it
 * would be none on a real host: Docker's service script asks for a million open files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

int uname(struct utsname *name)
{
	int (*real)(struct utsname *) = (int (*)(struct utsname *))dlsym(RTLD_NEXT, "uname");
	char line[sizeof name->release];
	int result = real(name);
	FILE *file = result == 0 ? fopen("/etc/lab/kernel", "re") : NULL;

	if (file) {
		if (fgets(line, sizeof line, file)) {
			line[strcspn(line, "\n")] = 0;
			strcpy(name->release, line);
		}
		fclose(file);
	}
	return result;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	int (*real)(__rlimit_resource_t, const struct rlimit *) =
		(int (*)(__rlimit_resource_t, const struct rlimit *))dlsym(RTLD_NEXT, "setrlimit");
	int result = real(resource, limit);

	return result == -1 && errno == EPERM ? 0 : result;
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
	int (*real)(__rlimit_resource_t, const struct rlimit64 *) =
		(int (*)(__rlimit_resource_t, const struct rlimit64 *))dlsym(RTLD_NEXT, "setrlimit64");
	int result = real(resource, limit);

	return result == -1 && errno == EPERM ? 0 : result;
}
