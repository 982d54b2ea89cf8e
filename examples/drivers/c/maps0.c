// SPDX-License-Identifier: GPL-2.0
/*
 * remap_pfn_range page by page: the lab's /dev/maps0, done right.
 *
 * 16 pages from vmalloc, dd cc bb aa at the start of each, shared by all who open the node. The pages are scattered, so
 * each needs a call of its own. remap_vmalloc_range.c does the same in one line, with pages that can be pinned.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

static char *memory;

static int maps0_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long at, page = vma->vm_pgoff;
	int err;

	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (page >= PAGES || vma_pages(vma) > PAGES - page)
		return -EINVAL;

	/*
	 * The lab's SIGBUS. MAP_PRIVATE on a descriptor opened for reading may still become writable (mprotect), which
	 * makes it copy-on-write, and then remap_pfn_range wants the whole mapping in one call: -EINVAL. A mapping that
	 * can never be written needs no copies.
	 */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}

	for (at = vma->vm_start; at < vma->vm_end; at += PAGE_SIZE, page++) {
		/* The first call sets VM_IO, VM_PFNMAP, VM_DONTEXPAND and VM_DONTDUMP. */
		err = remap_pfn_range(vma, at, vmalloc_to_pfn(memory + page * PAGE_SIZE), PAGE_SIZE, vma->vm_page_prot);
		/* Return it: the kernel unmaps what was mapped before, and mmap fails instead of a later access. */
		if (err)
			return err;
	}
	return 0;
}

static ssize_t maps0_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, memory, BYTES);
}

static ssize_t maps0_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	return simple_write_to_buffer(memory, BYTES, at, from, count);
}

static const struct file_operations maps0_fops = {
	/*
	 * An open file, and so a mapping, keeps the module, and the module keeps the memory: there is no other count of
	 * the mappings, and none is needed.
	 */
	.owner = THIS_MODULE,
	.mmap = maps0_mmap,
	.read = maps0_read,
	.write = maps0_write,
};

static struct miscdevice maps0 = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &maps0_fops,
	.mode = 0644,
};

static int __init maps0_init(void)
{
	static const u8 word[] = { 0xdd, 0xcc, 0xbb, 0xaa };
	int page, err;

	/* Zeroed: what is left of the pages goes to user space as well. */
	memory = vzalloc(BYTES);
	if (!memory)
		return -ENOMEM;
	for (page = 0; page < PAGES; page++)
		memcpy(memory + page * PAGE_SIZE, word, sizeof(word));
	err = misc_register(&maps0);
	if (err)
		vfree(memory);
	return err;
}

static void __exit maps0_exit(void)
{
	misc_deregister(&maps0);
	vfree(memory);
}

module_init(maps0_init);
module_exit(maps0_exit);

MODULE_DESCRIPTION("mmap by remap_pfn_range: vmalloc'd memory, page by page");
MODULE_LICENSE("GPL");
