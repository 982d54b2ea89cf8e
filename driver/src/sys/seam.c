// SPDX-License-Identifier: GPL-2.0
/* Waiting at the seams of a module that was built with MAPBUF_SEAMS=y: see seam.rs. */

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/random.h>

/* Its only caller is declared in seam.rs. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static unsigned int seam_us;
module_param(seam_us, uint, 0644);
MODULE_PARM_DESC(seam_us, "Most microseconds to wait at a seam (default 0)");

static unsigned long seam_passed[23];
module_param_array(seam_passed, ulong, NULL, 0444);
MODULE_PARM_DESC(seam_passed, "How often each seam was passed");

/* Half of the time there is no wait, so that both orders of two steps occur. */
void mapbuf_seam(u32 place)
{
	unsigned int most = READ_ONCE(seam_us);
	unsigned int wait;

	might_sleep();
	/* A new seam needs a place here too. */
	if (WARN_ON_ONCE(place >= ARRAY_SIZE(seam_passed)))
		return;
	WRITE_ONCE(seam_passed[place], READ_ONCE(seam_passed[place]) + 1);
	if (!most)
		return;
	wait = get_random_u32_below(most) + 1;
	if (get_random_u32_below(2))
		usleep_range(wait, wait + 5);
}
