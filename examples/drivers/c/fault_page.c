// SPDX-License-Identifier: GPL-2.0
/*
 * A fault handler that returns pages: nothing is mapped before it is touched, and the kernel enters the page.
 *
 * Every open of /dev/fault_page has 64 KiB of its own. read and write are the kernel's view of the same bytes.
 * The way to take when in doubt: pages can be pinned, private mappings copy them, and what madvise(MADV_DONTNEED) has
 * thrown away comes back at the next touch.
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
	/* Zeroed: it goes to user space. */
	file->private_data = vzalloc(BYTES);
	return file->private_data ? 0 : -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	/* After the last close and the last munmap: every mapping holds its file. */
	vfree(file->private_data);
	return 0;
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	struct file *file = vmf->vma->vm_file;

	/* Offset of the page in the node, vm_pgoff included. mmap lets no mapping through that leaves the memory. */
	if (WARN_ON_ONCE(vmf->pgoff >= PAGES))
		return VM_FAULT_SIGBUS;
	vmf->page = vmalloc_to_page(file->private_data + vmf->pgoff * PAGE_SIZE);
	/* This reference goes to the entry that the kernel is about to make. */
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct my_vm_ops = {
	/* No open and close: a fork or a split of the mapping takes references to the file, and that is all there is. */
	.fault = my_fault,
};

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/*
	 * vm_pgoff is any number that the program likes: no sum of it that could wrap. Refused here it is an error of
	 * mmap; refused by the fault handler it would be a SIGBUS.
	 */
	if (vma->vm_pgoff >= PAGES || vma_pages(vma) > PAGES - vma->vm_pgoff)
		return -EINVAL;

	/* Else mremap makes the mapping longer than the buffer. Copy-on-write needs no care: the kernel copies pages. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = &my_vm_ops;
	return 0;
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

MODULE_DESCRIPTION("mmap by a fault handler that returns pages");
MODULE_LICENSE("GPL");
