/* A lab host says that it runs the kernel in /etc/lab/kernel. Loaded into every program by /etc/ld.so.preload. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
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
