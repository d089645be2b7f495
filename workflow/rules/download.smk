# Download, check and unpack the real data sets' public files. Unpacked files put in place by hand are used as they are.
# `download` outputs a checksum, not the file itself: Snakemake would delete a 13 GB output before rerunning the rule.
DOWNLOADS = expand_path(plan.config.downloads.folder, "downloads.folder")
DOWNLOAD_TABLE = expand_path(plan.config.downloads.table or "", "downloads.table")
DOWNLOAD_TABLE = DOWNLOAD_TABLE or workflow.source_path("../resources/downloads.tsv")
DOWNLOADABLE = "|".join(re.escape(line.split("\t")[0]) for line in Path(DOWNLOAD_TABLE).read_text().splitlines()[1:])


def named_paths():
    """The keys of the config that name a file or folder, each with the path as it is written."""
    for name, entry in plan.datasets.items():
        settings = plan.settings(name)
        given = {} if entry.generate else {"raw": entry.raw, "images": entry.images}
        given |= {"vocabulary": entry.vocabulary, "rec": entry.rec}
        given |= {f"models.{experiment}": path for experiment, path in entry.models.items()}
        yield from ((f"datasets.{name}.{key}", path) for key, path in given.items() if path)
        if entry.rec is None and settings.init_backbone not in ("pretrain", "pretrained", "random"):
            yield "settings.init_backbone", settings.init_backbone
        if settings.text.vectors:
            yield "settings.text.vectors", settings.text.vectors


# Only a path below the downloads folder can be made by a rule. Where there are results, Snakemake would not miss another
# that is not there: it would take them for its own.
for key, path in named_paths():
    path = expand_path(path, key)
    if not (Path(path).exists() or path.startswith(f"{DOWNLOADS}/")):
        raise ConfigError(f"{key}: {path} does not exist; correct the path")


def downloads(path):
    return f"{DOWNLOADS}/{path}"


def fetched(file, out):
    """An input: the checksum of the download that `out` is made from, or nothing if `out` was put in place by hand."""

    def value(wildcards):
        record, made = (downloads(path.format(**wildcards)) for path in (f"downloads/{file}.sha256", out))
        return [] if Path(made).exists() and not Path(record).exists() else [record]

    return value


def unpacked(folder):
    """The list of files that `unpack` writes beside the folder, if it is one that an archive is unpacked to.

    Nothing for any other folder, or if the folder exists without a list, which means it was put in place by hand.
    """
    folder = Path(folder)
    if folder.parent not in (Path(downloads("annotations")), Path(downloads("images"))):
        return []
    listing = f"{folder}.txt"
    return [] if folder.exists() and not Path(listing).exists() else [listing]


rule download:
    output: downloads("downloads/{file}.sha256")
    params:
        table=DOWNLOAD_TABLE,
        folder=lambda wildcards: downloads("downloads"),
    wildcard_constraints: file=DOWNLOADABLE
    localrule: True
    message: "download {wildcards.file}"
    log: logs("download/{file}")
    conda: environment("prepare")
    shell:
        "python -m partialres download {wildcards.file:q} --table {params.table:q} --folder {params.folder:q} "
        "2> {log:q}"


rule unpack:
    input: fetched("{archive}.zip", "{room}/{archive}.txt")
    output: downloads("{room}/{archive}.txt")
    params: archive=downloads("downloads/{archive}.zip"), folder=downloads("{room}")
    wildcard_constraints: room="annotations|images"
    localrule: True
    message: "unpack the {wildcards.room} of {wildcards.archive}"
    log: logs("unpack/{room}/{archive}")
    conda: environment("prepare")
    shell: "python -m partialres unpack {params.archive:q} {params.folder:q} --list {output:q} 2> {log:q}"


rule unpack_vectors:
    input: fetched("{archive}.zip", "vectors/{archive}.{dim}d.txt")
    output: downloads("vectors/{archive}.{dim}d.txt")
    params: archive=downloads("downloads/{archive}.zip")
    wildcard_constraints: dim=r"\d+"
    localrule: True
    message: "unpack the {wildcards.dim}-dimensional vectors of {wildcards.archive}"
    log: logs("unpack_vectors/{archive}.{dim}d")
    conda: environment("prepare")
    shell:
        "python -m partialres unpack {params.archive:q} {output:q} --only {wildcards.archive}.{wildcards.dim}d.txt "
        "2> {log:q}"


rule place_weights:
    input: fetched("{file}", "weights/{file}")
    output: downloads("weights/{file}")
    params: file=downloads("downloads/{file}")
    wildcard_constraints: file=DOWNLOADABLE
    localrule: True
    message: "backbone weights: {wildcards.file}"
    log: logs("place_weights/{file}")
    conda: environment("prepare")
    shell: "(ln -f {params.file:q} {output:q} || cp {params.file:q} {output:q}) 2> {log:q} && touch {output:q}"


rule download_backbone:
    output: downloads("weights/timm/{name}.safetensors")
    params: revision=plan.config.downloads.revision
    localrule: True
    message: "download the weights of timm/{wildcards.name}"
    log: logs("download_backbone/{name}")
    conda: environment("prepare")
    shell:
        "python -m partialres download-backbone timm/{wildcards.name:q} --revision {params.revision:q} --out {output:q} "
        "2> {log:q}"


rule import_released:
    input:
        checkpoint=downloads("downloads/released/{dataset}/{name}.pth"),
        words=downloads("downloads/released/{dataset}/token_to_ix.pkl"),
    output:
        downloads("released/{dataset}/{name}/model.safetensors"),
        downloads("released/{dataset}/{name}/vocabulary.json"),
    params:
        max_words=setting("text.max_words"),
        out=downloads("released/{dataset}/{name}"),
        code=code("import-weights"),
    localrule: True
    message: "import the released checkpoint {wildcards.name} of {wildcards.dataset}"
    log: logs("import_released/{dataset}/{name}")
    conda: environment("prepare")
    shell:
        "python -m partialres import-weights {input.checkpoint:q} {params.out:q} --max-words {params.max_words} 2> {log:q}"
