"""The recipes that come with the package: listed without importing one, and found by their names, old and new."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import imagegen_jax as ig
from imagegen_jax.cli.common.targets import experiment_of, import_target
from imagegen_jax.recipes import shipped
from imagegen_jax.recipes.shipped import module_of, recipes

ROWS = [name for name, recipe in recipes().items() if recipe.is_row]


def test_every_recipe_has_a_line(imagegen):
    code, out, _ = imagegen("list")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 1 + len(recipes()) > 50
    for line, recipe in zip(lines[1:], recipes().values(), strict=True):
        assert line.startswith(f"{recipe.name} ")
        for part in (recipe.family, recipe.data, recipe.score):
            assert part and part in line


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("edm_cifar10", ("diffusion", "cifar10", "about 2 days on 8 V100", "FID 1.79")),
        ("vae_mnist", ("autoencoders", "mnist", "10 minutes on 2 CPU cores", "90.5 nats")),
        ("dit_b4_imagenet256", ("latents_256", "made for an accelerator", "FID 68.4")),
        ("dit_xl2_imagenet256", ("latents_256", "made for a rack of accelerators", "FID 2.27, inception score 278.24")),
        ("pixart_alpha_512", ("captioned_pictures", "  made for a rack of accelerators  ", "FID 7.32")),
        ("stable_diffusion_2", ("laion", "  made for a pod of accelerators  ", "865,910,724 trained parameters")),
        ("adm_upsampler_imagenet256", ("imagenet2012", "FID 3.94")),
        ("superres_digits", ("digits", "14 minutes", "PSNR of 19.7 dB")),
        ("cyclegan_horse2zebra", ("horse2zebra.zip/trainB",)),
    ],
)
def test_what_a_line_says(imagegen, name, says):
    line = imagegen("list", name)[1].splitlines()[1]
    assert all(part in line for part in (name, *says)), line


def test_words_choose_among_them(imagegen):
    assert len(imagegen("list", "facades", "horse2zebra")[1].splitlines()) == 3
    code, _, said = imagegen("list", "no_such_data")
    assert (
        code == 1
        and "no_such_data" in said
        and "autoencoders, autoregressive, classifiers, diffusion, early, gan" in said
    )


def test_listing_imports_neither_jax_nor_a_recipe():
    code = (
        "import runpy, sys; found = runpy.run_path(sys.argv[1])['recipes']()\n"
        "print(len(found), {'jax', 'numpy', 'imagegen_jax', 'experiments'} & set(sys.modules))"
    )
    out = subprocess.check_output([sys.executable, "-I", "-c", code, shipped.__file__], text=True)
    assert out.split() == [str(len(recipes())), "set()"]


@pytest.mark.parametrize("name", ["vae_mnist", "dit_b4_imagenet256"])
def test_a_recipe_is_a_value_by_its_name(name):
    assert ig.recipe(name) == importlib.import_module(f"experiments.{name}").experiment


def test_a_recipe_that_is_none_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="no recipe 'vae_mnits', `imagegen list` shows them all: did you mean 'vae_mn"):
        ig.recipe("vae_mnits")


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_has_the_name_that_it_is_found_by(name):
    assert module_of(name).experiment.name == name
    assert import_target(f"experiments.{name}").experiment.name == name


def test_what_is_no_recipe():
    with pytest.raises(KeyError):
        module_of("no_such_recipe")
    with pytest.raises(ModuleNotFoundError):
        __import__("experiments.no_such_recipe")
    with pytest.raises(ValueError, match="'ddpm_digit' here.* or a recipe, such as 'ddpm_digits'"):
        import_target("ddpm_digit")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm_digits", *ROWS])
def test_a_recipe_is_a_program_by_its_name(root, name):
    command = [sys.executable, "-m", f"experiments.{name}", "--help"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and f"python -m experiments.{name}" in done.stdout


def test_rows_of_a_table(root):
    assert {"dit_b4_imagenet256", "dit_xl2_imagenet256", "meanflow_b4_imagenet256"} <= set(ROWS)
    table = import_target("experiments.diffusion.dit_imagenet256")
    with pytest.raises(ValueError, match="several recipes: name one of dit_b4_imagenet256, dit_xl2_imagenet256"):
        experiment_of(table)
    assert import_target("dit_b4_imagenet256").__doc__ == table.__doc__


def test_a_module_of_the_user_goes_before_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "vae_mnist").mkdir()  # a folder that is called so is none, such as that of its run
    assert import_target("vae_mnist").experiment.name == "vae_mnist"
    (tmp_path / "vae_cifar10.py").write_text("mine = True\n")
    assert import_target("vae_cifar10").mine


def test_version_and_module(root, imagegen):
    code, out, _ = imagegen("--version")
    assert code == 0 and out.startswith("imagegen ")
    command = [sys.executable, "-m", "imagegen_jax", "list", "vae_mnist"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("vae_mnist")
