/* run.c - see run.h.
 * Start: haki_run_cut(). */
#include "pool/run.h"

#include "map/chunk.h"

void haki_run_gather_touched(struct page *first, size_t n) {
  size_t units = 0;
  for (size_t i = 0; i < n; i++) {
    size_t mine = HAK_PAGE_GET(&first[i], touched);
    if (mine != 0) units = i * HAK_UNITS_PER_PAGE + mine;
    HAK_PAGE_SET(&first[i], touched, 0);
  }
  HAK_PAGE_SET(first, touched, (uint16_t)units);
}

void haki_run_spread_touched(struct page *first, size_t n) {
  size_t units = HAK_PAGE_GET(first, touched);
  for (size_t i = 0; i < n; i++) {
    size_t mine = units < HAK_UNITS_PER_PAGE ? units : HAK_UNITS_PER_PAGE;
    HAK_PAGE_SET(&first[i], touched, (uint16_t)mine);
    units -= mine;
  }
}

struct page *haki_run_cut(struct haki_run *r, size_t n) {
  if (r->left < n) {
    struct page *p = haki_pages_take(HAK_RUN_LENGTH, 1);
    if (p == NULL) { /* not this much in one piece */
      p = haki_pages_take(n, 1);
      if (p != NULL) haki_run_gather_touched(p, n);
      return p;
    }
    haki_run_close(r);
    r->next = p;
    r->left = HAK_RUN_LENGTH;
  }
  struct page *p = r->next;
  r->next += n;
  r->left -= n;
  haki_run_gather_touched(p, n);
  return p;
}

void haki_run_close(struct haki_run *r) {
  if (r->left != 0) haki_pages_give(r->next, r->left);
  r->left = 0;
}
