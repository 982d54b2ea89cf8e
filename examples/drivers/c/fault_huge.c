// SPDX-License-Identifier: GPL-2.0
/*
 * huge_fault: 2 MiB in one entry, where memory, address and offset line up.
 *
 * Every open of /dev/fault_huge has one folio of 2 MiB of its own. read and write are the kernel's view of the same
 * bytes. Where a huge entry does not fit, the same folio is entered by 4 KiB. Kernels before 6.15 have no function to make
 * one: fault gives them the page, and they choose the size (6.1 that of the folio, 6.12 4 KiB).
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/version.h>

#define PAGES HPAGE_PMD_NR
#define BYTES HPAGE_PMD_SIZE

static int my_open(struct inode *inode, struct file *file)
{
	/*
	 * Zeroed, and charged to the memory cgroup of whoever opens. vmf_insert_folio_pmd takes folios of just this
	 * order. There may be none: an error, not a warning and not the OOM killer.
	 */
	file->private_data = folio_alloc(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
					 HPAGE_PMD_ORDER);
	return file->private_data ? 0 : -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	/* Our reference alone: who has pinned a part of the folio keeps all of it. */
	folio_put(file->private_data);
	return 0;
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	struct folio *folio = vmf->vma->vm_file->private_data;

	/* mmap lets no mapping through that leaves the memory. */
	if (WARN_ON_ONCE(vmf->pgoff >= PAGES))
		return VM_FAULT_SIGBUS;
	vmf->page = folio_page(folio, vmf->pgoff);
	get_page(vmf->page);
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
static vm_fault_t my_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long start = vmf->address & PMD_MASK;

	/* A private copy is made of small pages: FALLBACK has the kernel ask for one. */
	if (order != HPAGE_PMD_ORDER || (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return VM_FAULT_FALLBACK;
	/* The entry must lie in the mapping, and show the folio from its beginning. */
	if (start < vma->vm_start || vma->vm_end - start < PMD_SIZE || linear_page_index(vma, start) != 0)
		return VM_FAULT_FALLBACK;
	/* It takes the reference itself. */
	return vmf_insert_folio_pmd(vmf, vma->vm_file->private_data, vmf->flags & FAULT_FLAG_WRITE);
}
#endif

static const struct vm_operations_struct my_vm_ops = {
	.fault = my_fault,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	.huge_fault = my_huge_fault,
#endif
};

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* vm_pgoff is any number that the program likes: no sum of it that could wrap. */
	if (vma->vm_pgoff >= PAGES || vma_pages(vma) > PAGES - vma->vm_pgoff)
		return -EINVAL;

	/* Not VM_MIXEDMAP: the kernel cannot split a folio's entry there. Copy-on-write: the kernel copies pages. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, folio_address(file->private_data), BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	return simple_write_to_buffer(folio_address(file->private_data), BYTES, at, from, count);
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.mmap = my_mmap,
	/* Else the address lines up with 2 MiB by chance only. */
	.get_unmapped_area = thp_get_unmapped_area,
	.read = my_read,
	.write = my_write,
};

static struct miscdevice my_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &my_fops,
};
module_misc_device(my_node);

MODULE_DESCRIPTION("mmap by a fault handler that makes entries of 2 MiB");
MODULE_LICENSE("GPL");
