// SPDX-License-Identifier: GPL-2.0
/*
 * mmap_prepare: the driver describes the mapping, and the kernel carries it out. Linux 7.2 and later.
 *
 * Every open of /dev/mmap_prepare-pages and of /dev/mmap_prepare-frames has 64 KiB of its own; the one maps them as pages
 * (vm_map_pages.c with the new callback), the other as frames (remap_pfn_range.c). read and write are the kernel's view.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

struct my_buffer {
	void *memory;
	struct page *pages[PAGES];
};

static int my_open(struct inode *inode, struct file *file)
{
	struct my_buffer *buffer __free(kfree) = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	int i;

	if (!buffer)
		return -ENOMEM;
	/* Zeroed, and charged to the memory cgroup of whoever opens; single pages, each with a count of its own. */
	buffer->memory = alloc_pages_exact(BYTES, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!buffer->memory)
		return -ENOMEM;
	for (i = 0; i < PAGES; i++)
		buffer->pages[i] = virt_to_page(buffer->memory + i * PAGE_SIZE);
	file->private_data = no_free_ptr(buffer);
	return 0;
}

static int my_release(struct inode *inode, struct file *file)
{
	struct my_buffer *buffer = file->private_data;

	/* After the last close and the last munmap: every mapping holds its file. */
	free_pages_exact(buffer->memory, BYTES);
	kfree(buffer);
	return 0;
}

/*
 * Nothing is counted or allocated in mmap_prepare: the mapping may still fail, or be merged with another. What has to be
 * counted for each mapping belongs into vm_ops->mapped, open and close.
 */
static bool my_range_is_well(const struct vm_area_desc *desc)
{
	/* pgoff is any number that the program likes: no sum of it that could wrap. */
	return desc->pgoff < PAGES && vma_desc_pages(desc) <= PAGES - desc->pgoff;
}

static int my_pages(struct vm_area_desc *desc)
{
	struct my_buffer *buffer = desc->file->private_data;

	if (!my_range_is_well(desc))
		return -EINVAL;
	/* Else mremap makes the mapping longer than the buffer. Copy-on-write: the kernel copies pages. */
	vma_desc_set_flags(desc, VMA_DONTEXPAND_BIT);
	/* From the array's first entry on, whatever pgoff is: the offset is ours to add. */
	mmap_action_map_kernel_pages_full(desc, buffer->pages + desc->pgoff);
	return 0;
}

static int my_frames(struct vm_area_desc *desc)
{
	struct my_buffer *buffer = desc->file->private_data;

	if (!my_range_is_well(desc))
		return -EINVAL;
	/* As in remap_pfn_range.c: no copy-on-write of frames. */
	if (vma_desc_is_cow_mapping(desc)) {
		if (vma_desc_test(desc, VMA_WRITE_BIT))
			return -EINVAL;
		vma_desc_clear_flags(desc, VMA_MAYWRITE_BIT);
	}
	/* Sets VM_IO, VM_PFNMAP, VM_DONTEXPAND and VM_DONTDUMP. */
	mmap_action_remap_full(desc, PHYS_PFN(virt_to_phys(buffer->memory)) + desc->pgoff);
	return 0;
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct my_buffer *buffer = file->private_data;

	return simple_read_from_buffer(to, count, at, buffer->memory, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct my_buffer *buffer = file->private_data;

	return simple_write_to_buffer(buffer->memory, BYTES, at, from, count);
}

#define MY_FOPS(prepare) {			\
	.owner = THIS_MODULE,			\
	.open = my_open,			\
	.release = my_release,			\
	.mmap_prepare = prepare,		\
	.read = my_read,			\
	.write = my_write,			\
}

static const struct file_operations pages_fops = MY_FOPS(my_pages);
static const struct file_operations frames_fops = MY_FOPS(my_frames);

static struct miscdevice pages_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME "-pages",
	.fops = &pages_fops,
};

static struct miscdevice frames_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME "-frames",
	.fops = &frames_fops,
};

static int __init my_init(void)
{
	int err = misc_register(&pages_node);

	if (err)
		return err;
	err = misc_register(&frames_node);
	if (err)
		misc_deregister(&pages_node);
	return err;
}

static void __exit my_exit(void)
{
	misc_deregister(&frames_node);
	misc_deregister(&pages_node);
}

module_init(my_init);
module_exit(my_exit);

MODULE_DESCRIPTION("mmap by mmap_prepare and its actions");
MODULE_LICENSE("GPL");
