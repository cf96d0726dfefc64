// replaced.cc - a program with operators of its own, the plain ones only, as most that have any.
// The other forms must come to them, whatever is preloaded: its blocks are nobody else's.
#include <cstdio>
#include <cstdlib>
#include <new>

static char room[1 << 16];
static std::size_t used;
static int news, deletes;

void *operator new(std::size_t n) {
  news++;
  void *p = room + used;
  used += (n + 31) & ~std::size_t(15);
  return p;
}
void operator delete(void *p) noexcept {
  deletes += p != nullptr;
}

struct Thing {
  ~Thing() { c = 0; }
  int c;
};

int main() {
  delete new Thing;         // sized delete
  delete[] new Thing[3];    // array, sized
  delete[] new int[5];      // array
  operator delete[](operator new[](10), std::nothrow);
  std::printf("%d new %d delete\n", news, deletes);
}
