// SPDX-License-Identifier: GPL-2.0
/* Memory that vm_ops->close frees, without counting in open. */
#include "report.h"

struct buffer {
	char *memory;
};

static int get_memory(void)
{
	return 0;
}

static void put_memory(void)
{
}

static void my_close(struct vm_area_struct *vma)
{
	struct buffer *buffer = vma->vm_private_data;

	/* Wrong: a fork or a split makes a second mapping, and each of them is closed. */
	if (buffer->memory)
		free_page((unsigned long)buffer->memory);
	buffer->memory = NULL;
}

static const struct vm_operations_struct my_ops = { .close = my_close };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct buffer *buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);

	if (!buffer)
		return -ENOMEM;
	buffer->memory = (char *)get_zeroed_page(GFP_KERNEL);
	vma->vm_private_data = buffer;
	vma->vm_ops = &my_ops;
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(buffer->memory) >> PAGE_SHIFT, PAGE_SIZE,
			       vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-closed-twice", get_memory, put_memory);
