/* The driver's source as DKMS compiles it: enough for the compiler, the headers' place and the module's name to matter. */
int davinci_ascend_init(void)
{
	return 0;
}
