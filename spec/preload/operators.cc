// operators.cc - C++ on the preload library: every form of new and delete, and no memory.
// Built by a spec with the C++ compiler at hand; prints what happened, line by line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include <dlfcn.h>

static bool ours(void *p) {
  static auto owns = reinterpret_cast<int (*)(const void *)>(dlsym(RTLD_DEFAULT, "hak_owns"));
  return owns != nullptr && owns(p) != 0;
}

static int bad = 0;
static void check(bool good, const char *what) {
  if (!good) std::printf("wrong: %s\n", what), bad++;
}
#define CHECK(x) check((x), #x)

struct alignas(256) Wide {
  char bytes[256];
};
struct Small {
  ~Small() { std::memset(bytes, 0, sizeof bytes); }
  char bytes[40];
};

static void every_form(std::size_t n) {
  const auto wide = std::align_val_t(256);
  void *p[] = {operator new(n), operator new[](n), operator new(n, std::nothrow),
               operator new[](n, std::nothrow)};
  void *q[] = {operator new(n, wide), operator new[](n, wide), operator new(n, wide, std::nothrow),
               operator new[](n, wide, std::nothrow)};
  for (void *x : p) CHECK(x != nullptr && ours(x)), std::memset(x, 1, n);
  for (void *x : q) CHECK(ours(x) && reinterpret_cast<std::uintptr_t>(x) % 256 == 0);
  operator delete(p[0]);
  operator delete[](p[1], n);
  operator delete(p[2], std::nothrow);
  operator delete[](p[3], std::nothrow);
  operator delete(q[0], n, wide);
  operator delete[](q[1], wide);
  operator delete(q[2], wide, std::nothrow);
  operator delete[](q[3], wide, std::nothrow);
  operator delete(operator new(n), n);
  operator delete[](operator new[](n));
  operator delete(operator new(n, wide), wide);
  operator delete[](operator new[](n, wide), n, wide);
  operator delete(nullptr);
  operator delete[](nullptr, n);
}

static int handled = 0;
static void handler() {
  if (++handled == 3) std::set_new_handler(nullptr);
}

template <class F> static bool throws(F f) {
  try {
    f();
  } catch (const std::bad_alloc &) {
    return true;
  }
  return false;
}

int main() {
  volatile std::size_t huge = PTRDIFF_MAX;
  for (std::size_t n : {0, 1, 100, 5000, 50000, 3000000}) every_form(n);
  delete new Wide;
  delete[] new Wide[3];
  delete[] new Small[100];
  delete new std::string(1000, 'x');
  std::vector<std::string> list;
  for (int i = 0; i < 10000; i++) list.push_back(std::to_string(i) + std::string(i % 200, '.'));
  CHECK(ours(list.data()) && list[777].substr(0, 3) == "777");

  CHECK(throws([&] { operator delete(operator new(huge)); }));
  CHECK(throws([&] { operator delete[](operator new[](huge)); }));
  CHECK(throws([&] { operator delete(operator new(huge, std::align_val_t(64))); }));
  CHECK(throws([&] { operator delete[](operator new[](huge, std::align_val_t(64))); }));
  CHECK(throws([&] { list.reserve(huge / sizeof(std::string) / 2); }));
  CHECK(operator new(huge, std::nothrow) == nullptr);
  CHECK(operator new[](huge, std::nothrow) == nullptr);
  CHECK(operator new(huge, std::align_val_t(64), std::nothrow) == nullptr);
  CHECK(operator new[](huge, std::align_val_t(64), std::nothrow) == nullptr);
  std::set_new_handler(handler);
  CHECK(throws([&] { operator delete(operator new(huge)); }));
  CHECK(handled == 3);
  handled = 0;
  std::set_new_handler(handler);
  CHECK(operator new(huge, std::nothrow) == nullptr);
  CHECK(handled == 3);
  std::printf("%d wrong\n", bad);
  return bad;
}
