"""A method is given back in whichever order the patches of it are lifted."""

from itertools import permutations

import pytest

from lit_dist.utils.method_patch import MethodPatch


class Owner:
    def method(self) -> str:
        return "0"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_patches_of_one_method_are_lifted_in_any_order(order: tuple[int, ...]) -> None:
    owner, patches = Owner(), list[MethodPatch]()
    for number in range(3):
        patches.append(MethodPatch(owner, "method", lambda n=number: f"{patches[n].original()}{n + 1}"))
    standing = [1, 2, 3]
    assert owner.method() == "0123"
    for number in order:
        patches[number].lift()
        standing.remove(number + 1)
        assert owner.method() == "".join(map(str, [0, *standing]))
    assert not vars(owner)


def test_what_stood_in_the_object_itself_is_given_back() -> None:
    owner = Owner()
    owner.method = own = lambda: "own"  # type: ignore[method-assign]
    first, second = (MethodPatch(owner, "method", lambda: "patch") for _ in range(2))
    first.lift()
    assert owner.method() == "patch"
    second.lift()
    assert vars(owner) == {"method": own}


def test_a_patch_that_is_put_on_after_another_was_lifted_gives_the_method_back() -> None:
    owner = Owner()
    first, second = (MethodPatch(owner, "method", lambda: "patch") for _ in range(2))
    second.lift()
    third = MethodPatch(owner, "method", lambda: f"third over {third.original()}")
    first.lift()
    assert owner.method() == "third over 0"
    third.lift()
    assert owner.method() == "0"
