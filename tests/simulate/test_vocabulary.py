"""The vocabulary is complete, and its words are those of the rest of the system."""

from onesearch.simulate.titles import PADDING
from onesearch.simulate.vocabulary import TYPES, load_vocabulary
from onesearch.types import ATTRIBUTE_TYPES


def test_types_are_the_eighteen_of_the_system() -> None:
    assert TYPES == ATTRIBUTE_TYPES


def test_every_type_but_the_model_number_has_values() -> None:
    """Model numbers are drawn, all the rest is listed: 17 of 18 types."""
    assert {kind for kind, _ in load_vocabulary().values} == set(TYPES) - {"Model"}


def test_shape_of_the_market() -> None:
    """Ten departments and about forty leaves, each with at least one synonym and a positive price."""
    vocabulary = load_vocabulary()
    assert len(vocabulary.departments) == 10
    assert 38 <= len(vocabulary.categories) <= 50
    assert len({leaf.path for leaf in vocabulary.categories}) == len(vocabulary.categories)
    assert all(leaf.synonyms and leaf.price > 0 and len(leaf.path) == 3 for leaf in vocabulary.categories)


def test_synonyms_of_products_are_no_catalogue_words() -> None:
    """A synonym that stood in titles would need no semantics to be matched."""
    vocabulary = load_vocabulary()
    titles = {text.lower() for _, text in vocabulary.values} | set(PADDING)
    assert not titles & {synonym for leaf in vocabulary.categories for synonym in leaf.synonyms}


def test_brands_have_one_band() -> None:
    vocabulary = load_vocabulary()
    bands = [vocabulary.band(0, brand) for brand in vocabulary.choices("Brand", 0)]
    assert bands == sorted(bands)
    assert set(bands) == {0, 1, 2}
