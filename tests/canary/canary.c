// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the mistakes that a debug kernel is there to find, one of each, when it is loaded: a rung of tests that has
 * never been seen to fail shows nothing.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

/* Written where the compiler cannot see that nobody reads it. */
static volatile int sink;
static volatile int shift = 40;

static noinline void freed_slab(void)
{
	int *memory = kmalloc(64, GFP_KERNEL);

	if (!memory)
		return;
	OPTIMIZER_HIDE_VAR(memory);
	kfree(memory);
	sink = READ_ONCE(*memory);
}

static noinline void freed_page(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL);

	if (!page)
		return;
	free_page(page);
	OPTIMIZER_HIDE_VAR(page);
	sink = READ_ONCE(*(int *)page);
}

static noinline void beyond_vmalloc(void)
{
	char *memory = vmalloc(100);

	if (!memory)
		return;
	OPTIMIZER_HIDE_VAR(memory);
	sink = READ_ONCE(memory[120]);
	vfree(memory);
}

static noinline void leak(void)
{
	/* As many as the test expects: none may hide behind an address that was left somewhere. */
	for (int i = 0; i < 8; i++) {
		void *memory = kmalloc(1234, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(memory);
	}
}

static noinline void sleep_in_atomic(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

static noinline void corrupt_list(void)
{
	static struct list_head head = LIST_HEAD_INIT(head), one;

	list_add(&one, &head);
	list_del(&one);
	list_del(&one);
}

/* A device gives back DMA memory that it never had. */
static noinline void foreign_dma(void)
{
	struct platform_device *device = platform_device_register_simple("canary", -1, NULL, 0);

	if (IS_ERR(device))
		return;
	if (!dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64)))
		dma_unmap_single(&device->dev, 0x1234000, 64, DMA_TO_DEVICE);
	platform_device_unregister(device);
}

/* Work that is still queued when its memory is given back. */
static void nothing(struct work_struct *work)
{
}

static noinline void freed_work(void)
{
	struct delayed_work *work = kmalloc(sizeof(*work), GFP_KERNEL);

	if (!work)
		return;
	INIT_DELAYED_WORK(work, nothing);
	schedule_delayed_work(work, 1000 * HZ);
	/* Where this is noticed, the timer is taken out before its memory goes. */
	if (IS_ENABLED(CONFIG_DEBUG_OBJECTS_FREE))
		kfree(work);
}

static noinline void shift_too_far(void)
{
	sink = 1 << shift;
}

/* Two threads, one variable, and nothing between them. What is static and never read is left out by the compiler. */
extern int canary_contested;
int canary_contested;

static int contest(void *unused)
{
	while (!kthread_should_stop()) {
		canary_contested++;
		cond_resched();
	}
	return 0;
}

static noinline void race(void)
{
	struct task_struct *threads[2];
	int i;

	for (i = 0; i < 2; i++)
		threads[i] = kthread_run(contest, NULL, "canary%d", i);
	msleep(3000);
	for (i = 0; i < 2; i++)
		if (!IS_ERR(threads[i]))
			kthread_stop(threads[i]);
}

/* Lockdep looks for one, and until there is another report. */
static noinline void lock_inversion(void)
{
	static DEFINE_MUTEX(first);
	static DEFINE_MUTEX(second);

	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static int __init canary_init(void)
{
	/* A kernel that looks for races looks for nothing else, and would not live through the rest. */
	if (IS_ENABLED(CONFIG_KCSAN)) {
		race();
		return 0;
	}
	lock_inversion();
	freed_slab();
	freed_page();
	beyond_vmalloc();
	leak();
	sleep_in_atomic();
	corrupt_list();
	foreign_dma();
	freed_work();
	shift_too_far();
	return 0;
}

static void __exit canary_exit(void)
{
}

module_init(canary_init);
module_exit(canary_exit);
MODULE_DESCRIPTION("Mistakes for a debug kernel to find");
MODULE_LICENSE("GPL");
