/* The SDK's runtime library: enough for the loader to find it, and for a program to call it. */
int TsmInitRuntime(void)
{
	return 0;
}
