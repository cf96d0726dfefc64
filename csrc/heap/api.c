/* api.c - the public functions without a fast path: each calls the owner's.
 * Why:   see core.h.
 * Start: api.def. */
#include <errno.h>

#include "base/error.h"
#include "base/knob.h"
#include "base/stat.h"
#include "heap/core.h"

#define A(type, name, params, args) \
  HAK_API type hak_##name params { return haki_core()->name args; }
#define V(name, params, args) \
  HAK_API void hak_##name params { haki_core()->name args; }
#define H(type, name, params)
#include "heap/api.def"
#undef A
#undef V
#undef H

/* The same in every copy: no state. */
HAK_API const char *hak_version(void) { return haki_core()->version; }
HAK_API uint32_t hak_abi_version(void) { return haki_core()->abi; }
HAK_API size_t hak_knob_count(void) { return haki_knob_count(); }
HAK_API const hak_knob_info *hak_knob_info_at(size_t index) { return haki_knob_info_at(index); }
HAK_API int hak_knob_find(const char *name) { return haki_knob_find(name); }
HAK_API size_t hak_stat_count(void) { return haki_stat_count(); }
HAK_API const hak_stat_info *hak_stat_info_at(size_t index) { return haki_stat_info_at(index); }
HAK_API int hak_stat_find(const char *name) { return haki_stat_find(name); }
HAK_API const char *hak_strerror(int error) { return haki_strerror(error); }
HAK_API const char *hak_errname(int error) { return haki_errname(error); }
