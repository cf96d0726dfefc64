/* arena.c - arenas from C: a limit, a soft limit that asks for help, everything gone at once.
 * A job keeps what it has computed in a cache. When the arena passes its soft limit, the cache is
 * marked to be thrown away; the hard limit is what the job can never pass. */
#include <errno.h>
#include <hakmem.h>
#include <stdbool.h>
#include <stdio.h>

struct job {
  void *cache[1024];
  size_t cached;
  bool full; /* set by the soft limit */
};

/* Called inside an allocation of the job: takes a note, and must not allocate from the arena. */
static void on_soft(hak_arena *arena, size_t charged, void *ud) {
  struct job *job = ud;
  job->full = true;
  printf("%s: %zu KiB, that is enough\n", hak_arena_name(arena), charged / 1024);
}

static void step(hak_arena *arena, struct job *job, size_t size) {
  void *result = hak_arena_alloc(arena, size);
  if (result == NULL) {
    printf("%zu KiB more: %s\n", size / 1024, hak_strerror(errno));
    return;
  }
  job->cache[job->cached++] = result;
  if (!job->full) return;
  while (job->cached > 0) hak_arena_free(arena, job->cache[--job->cached]);
  hak_arena_trim(arena);
  job->full = false;
}

int main(void) {
  struct job job = {.cached = 0};
  hak_arena_config config = {.name = "job", .kind = HAK_ARENA_PRIVATE};
  config.soft = 1 << 20, config.hard = 2 << 20;
  config.on_soft = on_soft, config.ud = &job;
  hak_arena *arena = hak_arena_create(&config);
  if (arena == NULL) return 1;
  for (int i = 0; i < 400; i++) step(arena, &job, 10000);
  step(arena, &job, 4 << 20);

  uint64_t stats[256];
  size_t n = hak_stats_read(arena, stats, sizeof stats / sizeof *stats);
  for (size_t i = 0; i < n; i++)
    if (hak_stat_info_at(i)->per_arena && stats[i] != 0)
      printf("  %-24s %9llu %s\n", hak_stat_info_at(i)->name, (unsigned long long)stats[i],
             hak_stat_info_at(i)->unit);

  hak_arena_id id = hak_arena_get_id(arena);
  hak_arena_reset(arena); /* every block is gone, the arena can be used again */
  hak_arena_destroy(
      arena); /* all of it is gone; the id says so for ever, the pointer for a while */
  printf("destroyed: %s\n", hak_arena_from_id(id) == NULL ? hak_strerror(errno) : "?");
  return hak_arena_destroy(arena) == EINVAL ? 0 : 1;
}
