# Dictionaries, lists, strings of many sizes that live for different times; some text work on top.
import json

kept = {}
total = 0
for i in range(300000):
    key = i * 7919 % 20011
    kept[key] = {"id": i, "name": "n" * (i % 60), "list": list(range(i % 20))}
    if i % 3 == 0:
        kept.pop(i % 20011, None)
for round in range(3):
    text = json.dumps(list(kept.values()))
    back = json.loads(text)
    total += len(text) + sum(len(x["list"]) for x in back)
blocks = [bytearray(1000 + i * 37 % 200000) for i in range(2000)]
words = sorted((text[i : i + 12] for i in range(0, len(text), 12)), reverse=True)
print(total, len(words), sum(map(len, blocks)))
