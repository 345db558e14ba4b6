#!/usr/bin/env python3
"""Writes the trace of page allocations that Boot/248cpus replays.

It has the shape of a Linux boot on many CPUs: large tables and page cache on the boot CPU, then for
each further CPU its per-CPU areas, stacks and interrupt tables (most of them allocated by the boot
CPU on its behalf), then worker threads on every CPU. Sizes are round figures, not a recording; what
the benchmark compares depends on how many requests there are and how much they hold.

  make_boot_trace.py > boot_248cpus.txt
"""
import random

CPUS = 248
random.seed(20261121)
out = []


def step(kind, cpu, order, count):
    out.append(f"{kind} {cpu} {order} {count}")


# Hash tables, the kernel's own memory, the initramfs and its unpacked files.
for order, count in [(10, 40), (9, 16), (8, 16), (6, 64), (4, 128), (3, 512), (2, 512), (1, 1024)]:
    step("a", 0, order, count)
for _ in range(160):
    step("a", 0, 0, random.randint(16, 96))
    if random.random() < 0.2:
        step("f", 0, 0, random.randint(1, 12))
# Bringing up the other CPUs.
for cpu in range(1, CPUS):
    step("a", 0, 2, 6)
    step("a", 0, 0, random.randint(8, 16))
    step("a", cpu, 3, 1)
    step("a", cpu, 0, random.randint(6, 14))
    if random.random() < 0.3:
        step("f", cpu, 0, random.randint(1, 4))
# Workers, device queues, first user space.
for cpu in range(CPUS):
    step("a", cpu, 2, random.randint(4, 8))
    step("a", cpu, 0, random.randint(24, 64))
    step("f", cpu, 0, random.randint(4, 16))
print("# Page allocations of a boot on 248 CPUs; see make_boot_trace.py.")
print("# a|f CPU ORDER COUNT")
print("\n".join(out))
