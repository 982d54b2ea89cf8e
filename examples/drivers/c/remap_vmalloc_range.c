// SPDX-License-Identifier: GPL-2.0
/*
 * remap_vmalloc_range: vmalloc'd memory, all of it at once, as pages.
 *
 * Every open of /dev/remap_vmalloc_range has 64 KiB of its own. read and write are the kernel's view of the same bytes.
 * The shortest mmap there is; the pages can be pinned, and private mappings copy them.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

static int my_open(struct inode *inode, struct file *file)
{
	/* Zeroed, and marked as meant for user space: remap_vmalloc_range refuses what vmalloc and vzalloc give. */
	file->private_data = vmalloc_user(BYTES);
	return file->private_data ? 0 : -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	/* After the last close and the last munmap: every mapping holds its file. */
	vfree(file->private_data);
	return 0;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/*
	 * It compares offset and length with the memory by itself, without a sum that could wrap, and sets VM_DONTEXPAND
	 * and VM_DONTDUMP. Copy-on-write needs no care: there are pages, so the kernel can copy them. What the program
	 * throws away by madvise(MADV_DONTNEED) stays away, and is a SIGBUS; fault_page.c would bring it back.
	 */
	return remap_vmalloc_range(vma, file->private_data, vma->vm_pgoff);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, file->private_data, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	return simple_write_to_buffer(file->private_data, BYTES, at, from, count);
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.mmap = my_mmap,
	.read = my_read,
	.write = my_write,
};

static struct miscdevice my_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &my_fops,
};
module_misc_device(my_node);

MODULE_DESCRIPTION("mmap by remap_vmalloc_range");
MODULE_LICENSE("GPL");
