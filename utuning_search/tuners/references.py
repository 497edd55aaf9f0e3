"""The papers that tuners and presets come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes:
        key: BibTeX key.
        title: As printed.
        authors: First author and the rest, as BibTeX wants them.
        year: Of publication.
        arxiv: arXiv identifier.
        venue: Where it appeared, or empty.
    """

    key: str
    title: str
    authors: str
    year: int
    arxiv: str
    venue: str = ""

    def bibtex(self) -> str:
        kind, place = ("inproceedings", f"  booktitle = {{{self.venue}}},\n") if self.venue else ("misc", "")
        return (
            f"@{kind}{{{self.key},\n  title = {{{self.title}}},\n  author = {{{self.authors}}},\n{place}"
            f"  year = {{{self.year}}},\n  eprint = {{{self.arxiv}}},\n  archivePrefix = {{arXiv}}\n}}"
        )

    def __str__(self) -> str:
        return f"{self.authors.split(' and ')[0].split(',')[0]} et al., {self.year}, arXiv {self.arxiv}"


U_TUNING = Reference(
    "jiang2023utuning",
    "Rethinking Efficient Tuning Methods from a Unified Perspective",
    "Jiang, Zeyinzi and Mao, Chaojie and Huang, Ziyuan and Lv, Yiliang and Zhao, Deli and Zhou, Jingren",
    2023,
    "2303.00690",
)
ADAPTER = Reference(
    "houlsby2019adapter",
    "Parameter-Efficient Transfer Learning for NLP",
    "Houlsby, Neil and Giurgiu, Andrei and Jastrzebski, Stanislaw and Morrone, Bruna and others",
    2019,
    "1902.00751",
    "ICML",
)
LORA = Reference(
    "hu2022lora",
    "LoRA: Low-Rank Adaptation of Large Language Models",
    "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and others",
    2022,
    "2106.09685",
    "ICLR",
)
PREFIX = Reference(
    "li2021prefix",
    "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
    "Li, Xiang Lisa and Liang, Percy",
    2021,
    "2101.00190",
    "ACL",
)
UNIFIED_VIEW = Reference(
    "he2022unified",
    "Towards a Unified View of Parameter-Efficient Transfer Learning",
    "He, Junxian and Zhou, Chunting and Ma, Xuezhe and Berg-Kirkpatrick, Taylor and Neubig, Graham",
    2022,
    "2110.04366",
    "ICLR",
)
VPT = Reference(
    "jia2022vpt",
    "Visual Prompt Tuning",
    "Jia, Menglin and Tang, Luming and Chen, Bor-Chun and Cardie, Claire and others",
    2022,
    "2203.12119",
    "ECCV",
)
SSF = Reference(
    "lian2022ssf",
    "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
    "Lian, Dongze and Zhou, Daquan and Feng, Jiashi and Wang, Xinchao",
    2022,
    "2210.08823",
    "NeurIPS",
)
BITFIT = Reference(
    "zaken2022bitfit",
    "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
    "Ben Zaken, Elad and Goldberg, Yoav and Ravfogel, Shauli",
    2022,
    "2106.10199",
    "ACL",
)
LN_TUNING = Reference(
    "qi2022lntuning",
    "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models",
    "Qi, Wang and Ruan, Yu-Ping and Zuo, Yuan and Li, Taihao",
    2022,
    "2211.08682",
)
