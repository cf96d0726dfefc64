/* os_elf.c - which loaded objects define a symbol.
 *
 * Why:   dlopen() and dlsym() allocate, and search scopes instead of objects; who asks here may be
 *        malloc itself, at its first call.
 * Owns:  nothing.   Not: what the symbols are for.
 * Locks: none of ours; the loader's own is held while `visit` runs.
 * Start: haki_os_each_symbol().
 *
 * An object's dynamic section names three tables: strings, symbols, and a hash of the symbols that
 * it defines, in the format of GNU ld or of the System V ABI. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <link.h>
#include <string.h>

#include "os/os.h"

struct object {
  uintptr_t base;
  const char *strings;
  const ElfW(Sym) * symbols;
  const uint32_t *gnu, *sysv; /* hash tables; NULL: has none */
};

struct search {
  const char *name;
  int (*visit)(uintptr_t address, void *ud);
  void *ud;
};

/* glibc has added the base to the addresses of most objects, but not to the kernel's; musl to none. */
static const void *at(const struct object *o, uintptr_t address) {
  return (const void *)(address < o->base ? address + o->base : address);
}

static void read_dynamic(struct object *o, const ElfW(Dyn) * d) {
  for (; d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB) o->strings = at(o, d->d_un.d_ptr);
    if (d->d_tag == DT_SYMTAB) o->symbols = at(o, d->d_un.d_ptr);
    if (d->d_tag == DT_GNU_HASH) o->gnu = at(o, d->d_un.d_ptr);
    if (d->d_tag == DT_HASH) o->sysv = at(o, d->d_un.d_ptr);
  }
}

/* The address of symbol i if it is `name` and data or a plain function, defined here; else 0. */
static uintptr_t match(const struct object *o, uint32_t i, const char *name) {
  const ElfW(Sym) *s = &o->symbols[i];
  unsigned type = s->st_info & 15u;
  if (s->st_shndx == SHN_UNDEF || type > STT_FUNC) return 0;
  if (strcmp(o->strings + s->st_name, name) != 0) return 0;
  return o->base + s->st_value;
}

/* Layout: number of buckets, first symbol hashed, words of the Bloom filter, its shift; the filter,
 * the buckets, and for each symbol its hash, whose lowest bit ends a bucket. */
static uintptr_t find_gnu(const struct object *o, const char *name) {
  const uint32_t *t = o->gnu;
  uint32_t hash = 5381;
  for (const char *c = name; *c != '\0'; c++) hash = hash * 33 + (unsigned char)*c;
  const uint32_t *buckets = t + 4 + t[2] * (sizeof(ElfW(Addr)) / sizeof *t);
  const uint32_t *hashes = buckets + t[0] - t[1];
  if (t[0] == 0) return 0;
  uint32_t i = buckets[hash % t[0]];
  if (i < t[1]) return 0;
  for (;; i++) {
    uintptr_t found = ((hashes[i] ^ hash) | 1) == 1 ? match(o, i, name) : 0;
    if (found != 0 || (hashes[i] & 1) != 0) return found;
  }
}

/* Layout: number of buckets, of symbols; the rest is not needed where every symbol is looked at. */
static uintptr_t find_sysv(const struct object *o, const char *name) {
  for (uint32_t i = 0; i < o->sysv[1]; i++) {
    uintptr_t found = match(o, i, name);
    if (found != 0) return found;
  }
  return 0;
}

static int look_into(struct dl_phdr_info *info, size_t size, void *search) {
  struct search *s = search;
  struct object o = {.base = info->dlpi_addr};
  (void)size;
  for (size_t i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      read_dynamic(&o, (const ElfW(Dyn) *)(o.base + info->dlpi_phdr[i].p_vaddr));
  if (o.strings == NULL || o.symbols == NULL) return 0;
  uintptr_t found = 0;
  if (o.gnu != NULL)
    found = find_gnu(&o, s->name);
  else if (o.sysv != NULL)
    found = find_sysv(&o, s->name);
  return found != 0 ? s->visit(found, s->ud) : 0;
}

void haki_os_each_symbol(const char *name, int (*visit)(uintptr_t address, void *ud), void *ud) {
  dl_iterate_phdr(look_into, &(struct search){name, visit, ud});
}
