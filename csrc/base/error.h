/* error.h - the one map from error to errno, short name and text (errors.def).
 * Start: hak_strerror(). */
#ifndef HAK_ERROR_H
#define HAK_ERROR_H

#include "base/port.h"

const char *haki_strerror(int error); /* never NULL */
const char *haki_errname(int error);  /* "NOMEM", ...; "ERROR" when unknown */

#endif
