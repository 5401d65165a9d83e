# The settings of your site: the one file to edit. `cacl submit` and every job script read it.
# Leave this one as it is and name a copy of it instead:  export CACL_SITE=$HOME/site.sh
# shellcheck shell=bash disable=SC2034

# 1. Where jobs go. sbatch reads these names itself; unset means the cluster's own default.
# export SBATCH_PARTITION=gpu
# export SBATCH_ACCOUNT=project
# export SBATCH_QOS=normal
# export SBATCH_CONSTRAINT=a100

# 2. What jobs run in: a virtual environment, or an Apptainer image where CACL_IMAGE is not empty.
CACL_VENV=${CACL_VENV:-$PWD/.venv}
CACL_IMAGE=${CACL_IMAGE:-}
CACL_BIND=${CACL_BIND:-$PWD} # folders that the image must see, with commas between them
# module load cuda/13.0      # whatever your site asks for before a program may use a GPU

# 3. Processes on a node that has no GPU. With GPUs it is one process a GPU, and they are counted.
CACL_CPU_RANKS=${CACL_CPU_RANKS:-1}

# 4. A job that was interrupted goes back into the queue at most so many times.
CACL_MAX_REQUEUES=${CACL_MAX_REQUEUES:-100}

# 5. The network between nodes: all of NCCL's settings stand here and nowhere else.
# export NCCL_SOCKET_IFNAME=ib0      # the interface of the first contact; GLOO_SOCKET_IFNAME likewise
# export NCCL_IB_HCA=mlx5            # which InfiniBand adapters carry the gradients
# export NCCL_DEBUG=INFO             # says which network was chosen: look once, then leave it at WARN
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1 # a lost node ends the job with an error; without it the job hangs
