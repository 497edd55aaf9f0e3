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
PFEIFFER = Reference(
    "pfeiffer2021adapterfusion",
    "AdapterFusion: Non-Destructive Task Composition for Transfer Learning",
    "Pfeiffer, Jonas and Kamath, Aishwarya and Rücklé, Andreas and Cho, Kyunghyun and Gurevych, Iryna",
    2021,
    "2005.00247",
    "EACL",
)
ADAPTFORMER = Reference(
    "chen2022adaptformer",
    "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition",
    "Chen, Shoufa and Ge, Chongjian and Tong, Zhan and Wang, Jiangliu and others",
    2022,
    "2205.13535",
    "NeurIPS",
)
ADAPTER_PLUS = Reference(
    "steitz2024adapters",
    "Adapters Strike Back",
    "Steitz, Jan-Martin O. and Roth, Stefan",
    2024,
    "2406.06820",
    "CVPR",
)
FACT = Reference(
    "jie2023fact",
    "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer",
    "Jie, Shibo and Deng, Zhi-Hong",
    2023,
    "2212.03145",
    "AAAI",
)
UNIPELT = Reference(
    "mao2022unipelt",
    "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning",
    "Mao, Yuning and Mathias, Lambert and Hou, Rui and Almahairi, Amjad and others",
    2022,
    "2110.07577",
    "ACL",
)
CONVPASS = Reference(
    "jie2022convpass",
    "Convolutional Bypasses Are Better Vision Transformer Adapters",
    "Jie, Shibo and Deng, Zhi-Hong",
    2022,
    "2207.07039",
)
RES_TUNING = Reference(
    "jiang2023restuning",
    "Res-Tuning: A Flexible and Efficient Tuning Paradigm via Unbinding Tuner from Backbone",
    "Jiang, Zeyinzi and Mao, Chaojie and Huang, Ziyuan and Ma, Ao and others",
    2023,
    "2310.19859",
    "NeurIPS",
)
SCEDIT = Reference(
    "jiang2024scedit",
    "SCEdit: Efficient and Controllable Image Diffusion Generation via Skip Connection Editing",
    "Jiang, Zeyinzi and Mao, Chaojie and Pan, Yulin and Han, Zhen and Zhang, Jingfeng",
    2024,
    "2312.11392",
    "CVPR",
)
MLAE = Reference(
    "wang2024mlae",
    "MLAE: Masked LoRA Experts for Visual Parameter-Efficient Fine-Tuning",
    "Wang, Junjie and Yang, Guangjing and Chen, Wentao and Yi, Huahui and others",
    2024,
    "2405.18897",
)
NOAH = Reference(
    "zhang2022noah",
    "Neural Prompt Search",
    "Zhang, Yuanhan and Zhou, Kaiyang and Liu, Ziwei",
    2022,
    "2206.04673",
)
AUTOPEFT = Reference(
    "zhou2024autopeft",
    "AutoPEFT: Automatic Configuration Search for Parameter-Efficient Fine-Tuning",
    "Zhou, Han and Wan, Xingchen and Vulić, Ivan and Korhonen, Anna",
    2024,
    "2301.12132",
    "TACL",
)
