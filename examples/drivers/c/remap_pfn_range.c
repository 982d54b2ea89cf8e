// SPDX-License-Identifier: GPL-2.0
/*
 * remap_pfn_range: one physically contiguous run, entered by frame number in mmap.
 *
 * Every open of /dev/remap_pfn_range has 64 KiB of its own. read and write are the kernel's view of the same bytes.
 * For memory that nobody will ever pin (O_DIRECT, io_uring, RDMA); where somebody might, take vm_map_pages.c.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

static int my_open(struct inode *inode, struct file *file)
{
	/* Zeroed, since it goes to user space, and charged to the memory cgroup of whoever opens. */
	file->private_data = alloc_pages_exact(BYTES, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return file->private_data ? 0 : -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	/*
	 * remap_pfn_range takes no reference to the memory, but every mapping holds its file: this runs after the last
	 * close and the last munmap, those of forked children included.
	 */
	free_pages_exact(file->private_data, BYTES);
	return 0;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long pfn = PHYS_PFN(virt_to_phys(file->private_data));

	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (vma->vm_pgoff >= PAGES || vma_pages(vma) > PAGES - vma->vm_pgoff)
		return -EINVAL;

	/*
	 * Private and writable means copy-on-write. For frames the kernel does that only by writing the frame's number
	 * into vm_pgoff, where /proc/PID/maps shows it to everybody: refused. Private and read-only is fine once it can
	 * no longer be made writable.
	 */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}

	/* Sets VM_IO, VM_PFNMAP, VM_DONTEXPAND and VM_DONTDUMP. The kernel unmaps what there is when this fails. */
	return remap_pfn_range(vma, vma->vm_start, pfn + vma->vm_pgoff, vma->vm_end - vma->vm_start, vma->vm_page_prot);
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

MODULE_DESCRIPTION("mmap by remap_pfn_range: a contiguous run");
MODULE_LICENSE("GPL");
