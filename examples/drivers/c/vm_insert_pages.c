// SPDX-License-Identifier: GPL-2.0
/*
 * vm_insert_pages: pages from anywhere, entered at once, each with a reference.
 *
 * Every open of /dev/vm_insert_pages has 16 pages of its own. read and write are the kernel's view of the same bytes.
 * The pages can be pinned (O_DIRECT, io_uring, RDMA), and private mappings copy them.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

struct my_buffer {
	struct page *pages[PAGES];
	/* The same pages at one address of the kernel's. */
	void *view;
};

static void my_free(struct my_buffer *buffer)
{
	int i;

	vunmap(buffer->view);
	/* Who has pinned a page keeps it: this gives back our reference alone. */
	for (i = 0; i < PAGES && buffer->pages[i]; i++)
		put_page(buffer->pages[i]);
	kfree(buffer);
}

static int my_open(struct inode *inode, struct file *file)
{
	struct my_buffer *buffer = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	int i;

	if (!buffer)
		return -ENOMEM;
	for (i = 0; i < PAGES; i++) {
		/*
		 * Zeroed, and charged to the memory cgroup of whoever opens. Single pages: the tails of a larger
		 * allocation have no count of their own unless it is split or compound. Never memory from kmalloc.
		 */
		buffer->pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!buffer->pages[i])
			goto fail;
	}
	buffer->view = vmap(buffer->pages, PAGES, VM_MAP, PAGE_KERNEL);
	if (!buffer->view)
		goto fail;
	file->private_data = buffer;
	return 0;
fail:
	my_free(buffer);
	return -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	my_free(file->private_data);
	return 0;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct my_buffer *buffer = file->private_data;
	unsigned long count = vma_pages(vma);

	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (vma->vm_pgoff >= PAGES || count > PAGES - vma->vm_pgoff)
		return -EINVAL;

	/* Else mremap makes the mapping longer than the buffer. vm_insert_pages itself sets VM_MIXEDMAP only. */
	vm_flags_set(vma, VM_DONTEXPAND);

	/*
	 * Copy-on-write needs no care: there are pages, so the kernel can copy them. count is how many are left when it
	 * fails; the kernel unmaps the others.
	 */
	return vm_insert_pages(vma, vma->vm_start, buffer->pages + vma->vm_pgoff, &count);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct my_buffer *buffer = file->private_data;

	return simple_read_from_buffer(to, count, at, buffer->view, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct my_buffer *buffer = file->private_data;

	return simple_write_to_buffer(buffer->view, BYTES, at, from, count);
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

MODULE_DESCRIPTION("mmap by vm_insert_pages");
MODULE_LICENSE("GPL");
