// SPDX-License-Identifier: GPL-2.0
/*
 * io_remap_pfn_range: a physical range that was reserved at boot.
 *
 *	memmap=16M$0x30000000			(on the kernel's command line, \$ in GRUB's files)
 *	insmod io_remap_pfn_range.ko start=0x30000000 bytes=0x100000
 *
 * The range is RAM here. For a device's registers take vm_iomap_memory.c: they want ioremap and pgprot_noncached.
 * /dev/io_remap_pfn_range maps it; read and write are the kernel's view of the same bytes.
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

/* Not changed once it is loaded: 0400. */
static unsigned long start, bytes;
module_param(start, ulong, 0400);
MODULE_PARM_DESC(start, "Physical address of the range, a multiple of the page size");
module_param(bytes, ulong, 0400);
MODULE_PARM_DESC(bytes, "Length of the range in bytes, a multiple of the page size");

static void *view;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long pages = bytes >> PAGE_SHIFT;

	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (vma->vm_pgoff >= pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;

	/* As in remap_pfn_range.c: no copy-on-write of frames. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}

	/*
	 * The kernel's view is cached, so this one is as well: two cache modes for the same bytes are refused on x86, and
	 * lose data elsewhere. Sets VM_IO, VM_PFNMAP, VM_DONTEXPAND and VM_DONTDUMP.
	 */
	return io_remap_pfn_range(vma, vma->vm_start, PHYS_PFN(start) + vma->vm_pgoff, vma->vm_end - vma->vm_start,
				  vma->vm_page_prot);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, view, bytes);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	return simple_write_to_buffer(view, bytes, at, from, count);
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module, and the module keeps the range. */
	.owner = THIS_MODULE,
	.mmap = my_mmap,
	.read = my_read,
	.write = my_write,
};

static struct miscdevice my_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &my_fops,
};

/*
 * Whether memory answers there. A range at which there is nothing maps without a word, and then every read gives ones
 * (or, in some machines, zeros). Only where the range is known to be RAM: a device may do something when it is written.
 */
static bool __init is_memory(void)
{
	unsigned long at;

	for (at = 0; at < bytes; at += PAGE_SIZE) {
		unsigned long *word = view + at;

		WRITE_ONCE(*word, start ^ at ^ 0x5aa5);
		/* Two words: what was written last may stay on the bus for a while. */
		WRITE_ONCE(word[1], ~0UL);
		if (READ_ONCE(*word) != (start ^ at ^ 0x5aa5))
			return false;
	}
	return true;
}

static int __init my_init(void)
{
	int err = -ENOMEM;

	if (!bytes || !PAGE_ALIGNED(start | bytes) || start + bytes < start) {
		pr_err("start and bytes must name a range of whole pages, not %#lx and %#lx\n", start, bytes);
		return -EINVAL;
	}
	/* Nobody else's from now on. Memory that the kernel itself uses is refused: it was not reserved. */
	if (!request_mem_region(start, bytes, KBUILD_MODNAME)) {
		pr_err("%#lx bytes at %#lx are in use: see /proc/iomem\n", bytes, start);
		return -EBUSY;
	}
	view = memremap(start, bytes, MEMREMAP_WB);
	if (!view)
		goto release;
	if (!is_memory()) {
		pr_err("nothing answers at %#lx\n", start);
		err = -ENODEV;
		goto unmap;
	}
	/* Whatever the firmware or the kernel before left there is not for user space. */
	memset(view, 0, bytes);
	err = misc_register(&my_node);
	if (err)
		goto unmap;
	return 0;
unmap:
	memunmap(view);
release:
	release_mem_region(start, bytes);
	return err;
}

static void __exit my_exit(void)
{
	misc_deregister(&my_node);
	memunmap(view);
	release_mem_region(start, bytes);
}

module_init(my_init);
module_exit(my_exit);

MODULE_DESCRIPTION("mmap by io_remap_pfn_range, of a range that was reserved at boot");
MODULE_LICENSE("GPL");
