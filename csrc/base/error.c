/* error.c - expansion of errors.def.
 * Start: haki_strerror(). */
#include "base/error.h"

#include <errno.h>

static const struct {
  int value;
  const char *name, *text;
} errors[] = {
#define E(value, name, text) {value, name, text},
#include "base/errors.def"
#undef E
};

const char *haki_strerror(int error) {
  for (size_t i = 0; i < HAK_COUNT_OF(errors); i++)
    if (errors[i].value == error) return errors[i].text;
  return "unknown error";
}

const char *haki_errname(int error) {
  for (size_t i = 0; i < HAK_COUNT_OF(errors); i++)
    if (errors[i].value == error) return errors[i].name;
  return "ERROR";
}
