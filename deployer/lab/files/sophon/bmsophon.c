/* The driver's source as it is compiled on a host; the lab's modprobe reads version and date out of the module. */
const char bmsophon_release[] = "LAB-RELEASE:@VERSION@:@DATE@:@LTS@:";

int bmsophon_init(void)
{
	return bmsophon_release[0];
}
