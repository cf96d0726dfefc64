-- A database in memory: rows, indexes, joins, sorts, blobs of many sizes.
create table item(id integer primary key, name text, price real, body blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000)
  insert into item select i, 'name ' || (i * 7919 % 50000), i % 977 / 7.0, zeroblob(i % 400) from n;
create index by_name on item(name);
create table sale(item integer, n integer);
insert into sale select id * 31 % 50000 + 1, id % 13 from item;
select count(*), sum(n), round(sum(n * price), 3) from sale join item on item.id = sale.item;
select name, sum(n) s from item join sale on item = id group by name order by s desc, name limit 20;
select substr(name, 1, 7) p, count(*), max(length(body)) from item group by p order by p;
delete from item where id % 3 = 0;
vacuum;
select length(json_group_array(name)) from item;
