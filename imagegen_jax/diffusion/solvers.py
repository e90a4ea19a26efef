"""Every solver, as the annotation of a model's field: `solver: AnySolver = DPMSolver()`."""

from imagegen_jax.diffusion.ancestral import ConsistencyMultistep, DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.exponential import DPMSolver, UniPC
from imagegen_jax.diffusion.heun import Heun, Restart
from imagegen_jax.diffusion.multistep import DEIS, LMS, PNDM, Euler
from imagegen_jax.diffusion.ode import RK45

AnySolver = (
    Euler | Heun | EulerAncestral | DDPMAncestral | LMS | DPMSolver | UniPC | DEIS | PNDM | RK45 | Restart
    | ConsistencyMultistep
)  # fmt: skip
