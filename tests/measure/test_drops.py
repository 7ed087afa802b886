from pipeline.measure.drops import Drop, drop_rows


def test_drops_of_nothing_are_not_told() -> None:
    some = Drop(what="rows", reason="blank", dropped=3, total=12, key="prompts.a.size")
    none = Drop(what="rows", reason="long", dropped=0, total=12, key="")
    assert some.sentence == "3 of 12 rows left out: blank (prompts.a.size)"
    (row,) = drop_rows([some, none])
    assert Drop(**row) == some
