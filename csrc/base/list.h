/* list.h - intrusive doubly linked ring.
 * Why:   membership costs two words and no allocation; removal needs no head.
 * INV list-1: n->next->prev == n and n->prev->next == n, also for the head.
 * Start: hak_list. */
#ifndef HAK_LIST_H
#define HAK_LIST_H

#include "base/port.h"

typedef struct hak_list {
  struct hak_list *next, *prev;
} hak_list;

#define HAK_LIST_OF(node, type, field) ((type *)((char *)(node)-offsetof(type, field)))

HAK_INLINE void haki_list_init(hak_list *l) { l->next = l->prev = l; }
HAK_INLINE bool haki_list_empty(const hak_list *l) { return l->next == l; }
HAK_INLINE void haki_list_insert(hak_list *at, hak_list *n) { /* behind `at` */
  n->next = at->next;
  n->prev = at;
  at->next->prev = n;
  at->next = n;
}
HAK_INLINE void haki_list_append(hak_list *head, hak_list *n) { haki_list_insert(head->prev, n); }
HAK_INLINE void haki_list_remove(hak_list *n) { /* twice is harmless */
  n->next->prev = n->prev;
  n->prev->next = n->next;
  haki_list_init(n);
}

#endif
