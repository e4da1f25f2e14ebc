import pytest

from onesearch.sid.spec import SidSpec


def test_the_reference_spec_has_6144_tokens():
    """4096 + 1024 + 512 + 256 + 256 = 6144; layers begin at 0, 4096, 5120, 5632, 5888."""
    spec = SidSpec()
    assert (spec.num_tokens, spec.num_layers, spec.offsets) == (6144, 5, (0, 4096, 5120, 5632, 5888))
    tokens = spec.tokens()
    assert len(tokens) == len(set(tokens)) == 6144
    assert (tokens[0], tokens[4096 + 7], tokens[6143]) == ("<a_0>", "<b_7>", "<e_255>")


def test_a_sid_reads_back_as_it_was_written():
    spec = SidSpec([8, 4], [3, 3])
    assert spec.render((7, 0, 2, 1)) == "<a_7><b_0><c_2><d_1>"
    assert spec.parse("<a_7><b_0><c_2><d_1>") == (7, 0, 2, 1)
    assert spec.render((7, 0)) == "<a_7><b_0>"  # a prefix
    assert spec == SidSpec((8, 4), (3, 3))  # lists from YAML are the same spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a_1><b_1>", "no SID of this spec"),
        ("<b_1><a_1><c_1>", "no SID of this spec"),
        ("<a_1> <b_1><c_1>", "no SID of this spec"),
        ("<a_1><b_1><c_1>!", "no SID of this spec"),
        ("<a_1><b_4><c_1>", "code 4 of layer 'b' is not in 0–3"),
    ],
)
def test_a_broken_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        SidSpec((8, 4), (3,)).parse(text)


def test_wrong_codes_and_sizes_are_refused():
    with pytest.raises(ValueError, match="code 8 of layer 'a'"):
        SidSpec((8, 4), ()).render((8, 0))
    with pytest.raises(ValueError, match="has 3 codes"):
        SidSpec((8, 4), ()).render((0, 0, 0))
    with pytest.raises(ValueError, match="rq_sizes is"):
        SidSpec((8, 0), ())
    with pytest.raises(ValueError, match="a SID has 1 to 26 layers"):
        SidSpec((), ())
